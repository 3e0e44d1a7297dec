//! Frames of clients and brokers.
use bytes::{Bytes, BytesMut};
use wire::{
    ApiKey, DecodeError, RESPONSE_ITEM_BYTES, Reader, Request, ResponseBody, Writer, decode_request,
    decode_response,
};

/// A request frame: header and body name their API and version. What decodes encodes to bytes that decode
/// to the same.
pub fn request(data: &[u8]) {
    let Ok((header, request)) = decode_request(BytesMut::from(data)) else { return };
    let (key, version) = (header.api_key, header.api_version);
    let mut writer = Writer::body();
    if request.write(&mut writer, version).is_err() {
        return;
    }
    let bytes = writer.into_bytes();
    let again = Request::read(key, version, reader(&bytes)).expect("what we encode, we decode");
    assert!(again == request, "{key:?} v{version}: {request:?} became {again:?}");
    rewritten_alike(&bytes, &again, |r, w| r.write(w, version).is_ok());
}

/// A response frame behind two bytes: place in the table of APIs, version above its lowest.
pub fn response(data: &[u8]) {
    let [api, version, frame @ ..] = data else { return };
    let api = &wire::served()[usize::from(*api) % wire::served().len()];
    let version = api.min + i16::from(*version) % (api.max - api.min + 1);
    let Ok((_, body)) = decode_response(api.key, version, BytesMut::from(frame)) else { return };
    let mut writer = Writer::body();
    if body.write(&mut writer, version).is_err() {
        return;
    }
    let bytes = writer.into_bytes();
    let again = read_response(api.key, version, &bytes).expect("what we encode, we decode");
    assert!(again == body, "{:?} v{version}: {body:?} became {again:?}", api.key);
    rewritten_alike(&bytes, &again, |r, w| r.write(w, version).is_ok());
}

fn read_response(key: ApiKey, version: i16, bytes: &Bytes) -> Result<ResponseBody, DecodeError> {
    ResponseBody::read(key, version, reader(bytes))
}

fn reader(bytes: &Bytes) -> Reader {
    // Twice the memory that decoding the input was allowed: the second reading must not be the one to fail.
    Reader::new(BytesMut::from(&bytes[..]), "body", RESPONSE_ITEM_BYTES)
}

fn rewritten_alike<T>(bytes: &Bytes, value: &T, write: impl Fn(&T, &mut Writer) -> bool) {
    let mut writer = Writer::body();
    assert!(write(value, &mut writer), "encodes once, encodes again");
    assert!(writer.into_bytes() == *bytes, "one value has one encoding");
}
