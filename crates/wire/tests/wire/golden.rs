//! Bytes written by hand: see `golden.txt`. A case is added there, not here.
use bytes::BytesMut;
use wire::{Reader, Request, ResponseBody, Writer};

fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        match word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
            Some(text) => bytes.extend(text.as_bytes()),
            None => bytes.extend(
                (0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap()),
            ),
        }
    }
    bytes
}

/// Decodes and encodes again: what the value shows, and its bytes.
fn again(message: &str, version: i16, bytes: &[u8]) -> (String, Vec<u8>) {
    let key = |name: &str| wire::served().iter().find(|api| api.name == name).unwrap().key;
    let reader = Reader::new(BytesMut::from(bytes), "body", wire::REQUEST_ITEM_BYTES);
    let mut writer = Writer::body();
    let shown = if let Some(name) = message.strip_suffix("Request") {
        let value = Request::read(key(name), version, reader).unwrap();
        value.write(&mut writer, version).unwrap();
        format!("{value:?}")
    } else {
        let value =
            ResponseBody::read(key(message.strip_suffix("Response").unwrap()), version, reader).unwrap();
        value.write(&mut writer, version).unwrap();
        format!("{value:?}")
    };
    (shown, writer.into_bytes().to_vec())
}

#[test]
fn bytes_written_by_hand_decode_to_the_values_meant() {
    let mut cases = 0;
    for line in include_str!("golden.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (left, expected) = line.split_once('|').unwrap();
        let mut words = left.splitn(3, ' ');
        let (message, version) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        let bytes = bytes_of(words.next().unwrap());
        let (shown, encoded) = again(message, version, &bytes);
        for expected in expected.split(';') {
            assert!(shown.contains(expected.trim()), "{message} v{version}: no{expected}in {shown}");
        }
        assert_eq!(encoded, bytes, "{message} v{version}");
        cases += 1;
    }
    assert!(cases > 0);
}
