//! The crate rdkafka (newest librdkafka) against a broker; the contract is in ../README.md.
mod adapter;
mod checks;
mod worker;

use std::collections::BTreeMap;
use std::time::Instant;

use adapter::Client;
use serde_json::json;

fn main() {
    let mut args: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
        args.insert(name.trim_start_matches('-').to_owned(), value);
    }
    let number = |name: &str, otherwise| {
        args.get(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("--{name} is a number")))
    };
    let client = Client::new(&args["bootstrap"], number("replicas", 1) as i32).expect("a client");
    let records: usize = number("records", 10_000);
    let only = args.get("check").map_or("all", String::as_str);
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    println!("{}", json!({"check": "version", "ok": true, "detail": format!("0.39.0, librdkafka {librdkafka}")}));
    let mut fine = true;
    for (name, check) in checks::CHECKS {
        if only != *name && (only != "all" || checks::NAMED.contains(name)) {
            continue;
        }
        if *name == "consumer-protocol" && std::env::var("CONSUMER_PROTOCOL").as_deref() != Ok("yes") {
            let why = "the broker does not serve ConsumerGroupHeartbeat";
            println!("{}", json!({"check": name, "skipped": why}));
            continue;
        }
        let codecs: &[&str] =
            if *name == "codec" { &["none", "gzip", "snappy", "lz4", "zstd"] } else { &[""] };
        for codec in codecs {
            let mut topic = format!("{}-{name}", args["topic-prefix"]);
            if !codec.is_empty() {
                topic = format!("{topic}-{codec}");
            }
            let started = Instant::now();
            let result = check(&client, &checks::Ask { topic, records, codec });
            let line = json!({
                "check": name,
                "codec": if codec.is_empty() { None } else { Some(codec) },
                "ok": result.is_ok(),
                "detail": result.as_ref().err().cloned().unwrap_or_default(),
                "seconds": started.elapsed().as_secs_f64(),
            });
            println!("{line}");
            fine &= result.is_ok();
        }
    }
    std::process::exit(i32::from(!fine));
}
