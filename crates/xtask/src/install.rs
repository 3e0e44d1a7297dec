//! What the client suites need, from its registries by the ordinary package managers.
//!
//! Everything but Debian's packages lands in `target/clients`. A stamp beside each part holds the manifest
//! that it was installed from, so that a second run costs nothing and a changed manifest installs anew.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::run_quietly as run;

pub(crate) const KAFKA_BROKER: &str = "kafka-4.4.0";
pub(crate) const KAFKA_TOOLS: &str = "tools-4.3.1";
pub(crate) const KAFKA_STREAMS: &str = "streams-4.3.1";
pub(crate) const KAFKA_CONNECT: &str = "connect-4.3.1";
pub(crate) const FLINK: &str = "flink-2.0.0";
pub(crate) const SPARK: &str = "spark-4.2.0";

/// One thing to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Debian(&'static [&'static str]),
    Python,
    Node,
    ConfluentNode,
    Go,
    RdKafka,
    KafkaBroker,
    KafkaTools,
    KafkaStreams,
    KafkaConnect,
    Flink,
    /// pyspark, with an environment of its own, and its connector.
    Spark,
    /// Our own program in a folder of `java/programs`, compiled against a set of jars.
    JavaProgram(JavaProgram),
}

/// A Java program of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JavaProgram {
    pub(crate) folder: &'static str,
    pub(crate) main: &'static str,
    pub(crate) jars: &'static str,
    /// For the virtual machine.
    pub(crate) options: &'static [&'static str],
}

/// Where the installed parts are.
pub(crate) fn home(root: &Path) -> PathBuf {
    root.join("target/clients")
}

fn sources(root: &Path) -> PathBuf {
    root.join("tests/clients")
}

/// Installs what is missing.
pub(crate) fn install(root: &Path, need: Need) -> Result<()> {
    let done = match need {
        Need::Debian(packages) => debian(packages),
        Need::Python => python(root, "python", "python", "venv"),
        Need::Node => node(root),
        Need::ConfluentNode => confluent_node(root),
        Need::Go => go(root),
        Need::RdKafka => rdkafka(root),
        Need::KafkaBroker => maven(root, "broker", KAFKA_BROKER),
        Need::KafkaTools => maven(root, "tools", KAFKA_TOOLS),
        Need::KafkaStreams => maven(root, "streams", KAFKA_STREAMS),
        Need::KafkaConnect => maven(root, "connect", KAFKA_CONNECT),
        Need::Flink => maven(root, "flink", FLINK),
        Need::Spark => {
            python(root, "spark", "pyspark", "venv-spark").and_then(|()| maven(root, "spark", SPARK))
        }
        Need::JavaProgram(program) => javac(root, program),
    };
    done.with_context(|| format!("install {need:?}"))
}

fn debian(packages: &[&str]) -> Result<()> {
    let there = |package: &str| {
        let status = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).output();
        status.is_ok_and(|output| output.stdout.ends_with(b" installed"))
    };
    let missing: Vec<_> = packages.iter().filter(|package| !there(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(apt().arg("update"))?;
    run(apt().args(["install", "-y", "--no-install-recommends"]).args(missing))
}

/// Runs `build` unless the stamp of `name` already holds these manifests.
fn once(root: &Path, name: &str, manifests: &[PathBuf], build: impl FnOnce() -> Result<()>) -> Result<()> {
    let home = home(root);
    fs::create_dir_all(&home)?;
    let stamp = home.join(format!("{name}.stamp"));
    let mut wanted = Vec::new();
    for manifest in manifests {
        wanted.extend(fs::read(manifest).with_context(|| manifest.display().to_string())?);
    }
    if fs::read(&stamp).is_ok_and(|held| held == wanted) {
        return Ok(());
    }
    build()?;
    fs::write(&stamp, wanted)?;
    Ok(())
}

/// What the folder's requirements name, in an environment.
fn python(root: &Path, folder: &str, stamp: &str, venv: &str) -> Result<()> {
    let requirements = sources(root).join(folder).join("requirements.txt");
    once(root, stamp, std::slice::from_ref(&requirements), || {
        let venv = home(root).join(venv);
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(&requirements))
    })
}

fn node_manifests(root: &Path) -> [PathBuf; 2] {
    ["package.json", "package-lock.json"].map(|name| sources(root).join("node").join(name))
}

/// The packages and, every time, the client programs beside them, where `require` finds the packages.
fn node(root: &Path) -> Result<()> {
    let (from, to) = (sources(root).join("node"), home(root).join("node"));
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    once(root, "node", &node_manifests(root), || {
        run(Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(&to))
    })
}

/// The native part: its prebuilt file is not in the registry, so it is built from the package's own sources
/// against Debian's libraries. One job: with more, its makefile asks for `config.h` before it has made it.
fn confluent_node(root: &Path) -> Result<()> {
    node(root)?;
    once(root, "confluent-node", &node_manifests(root), || {
        let mut npm = Command::new("npm");
        npm.args(["rebuild", "@confluentinc/kafka-javascript"]).current_dir(home(root).join("node"));
        run(npm.env("CKJS_LINKING", "dynamic").env("JOBS", "1"))
    })
}

/// Go rebuilds only what changed, so there is no stamp.
fn go(root: &Path) -> Result<()> {
    fs::create_dir_all(home(root).join("go"))?;
    let mut command = Command::new("go");
    command.args(["build", "-o"]).arg(home(root).join("go")).arg("./...");
    run(command.current_dir(sources(root).join("go")))
}

fn rdkafka(root: &Path) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]);
    command.arg(sources(root).join("rdkafka/Cargo.toml")).env("CARGO_TARGET_DIR", home(root).join("rdkafka"));
    run(&mut command)
}

fn maven(root: &Path, project: &str, name: &str) -> Result<()> {
    let pom = sources(root).join("java").join(project).join("pom.xml");
    once(root, name, std::slice::from_ref(&pom), || {
        let output = format!("-DoutputDirectory={}", home(root).join(name).display());
        let mut command = Command::new("mvn");
        command.args(["-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
        run(command.arg(output).arg("-f").arg(&pom))
    })
}

/// Compiles what the main class uses, of its folder and of the common one.
fn javac(root: &Path, program: JavaProgram) -> Result<()> {
    let folders = ["common", program.folder].map(|name| sources(root).join("java/programs").join(name));
    let mut manifests = Vec::new();
    for folder in &folders {
        for entry in fs::read_dir(folder)? {
            manifests.push(entry?.path());
        }
    }
    manifests.sort();
    let name = format!("java-{}", program.folder);
    once(root, &name, &manifests, || {
        let mut command = Command::new("javac");
        command.args(["-J-Xmx512m", "-Xlint:unchecked,deprecation,rawtypes", "-Werror", "-proc:none", "-d"]);
        command.arg(home(root).join(&name)).arg("-cp").arg(home(root).join(program.jars).join("*"));
        command.arg("-sourcepath").arg(std::env::join_paths(&folders)?);
        run(command.arg(folders[1].join(program.main).with_extension("java")))
    })
}

/// The command that runs one.
pub(crate) fn java_program(root: &Path, program: JavaProgram) -> Command {
    let mut command = Command::new("java");
    let log4j = sources(root).join("java/log4j2.properties");
    command.arg(format!("-Dlog4j2.configurationFile={}", log4j.display()));
    command.args(["-Xmx512m", "-XX:+UseSerialGC"]).args(program.options).arg("-cp");
    let classes = home(root).join(format!("java-{}", program.folder));
    command.arg(format!("{}:{}", classes.display(), home(root).join(program.jars).join("*").display()));
    command.arg(program.main);
    command
}

/// `java` with the class path of one of Kafka's two sets of jars.
pub(crate) fn java(root: &Path, jars: &str) -> Command {
    let mut command = Command::new("java");
    let log4j = sources(root).join("java/log4j2.properties");
    command.arg(format!("-Dlog4j2.configurationFile={}", log4j.display()));
    command.arg("-cp").arg(home(root).join(jars).join("*"));
    command
}
