//! Requests whose bodies are bytes of one kind, for every API and version: cut short, too long, null where nothing
//! may be null, lengths beyond the frame.
use crate::script::Script;
use wire::{ApiKey, served};

/// Of zeros these make a new producer, a session that nobody can name, or ask for no answer.
const NOT_OF_ZEROS: [ApiKey; 3] = [ApiKey::InitProducerId, ApiKey::Fetch, ApiKey::Produce];

pub(super) fn steps(script: &mut Script) {
    for api in served() {
        script.body("an empty body", api.key, &[]);
        script.body("a body of one byte", api.key, &[1]);
        script.body("a body of ones", api.key, &[0xff; 64]);
        script.body("a body of 0x7f", api.key, &[0x7f; 64]);
        if !NOT_OF_ZEROS.contains(&api.key) {
            script.body("a body of zeros, too long", api.key, &[0; 96]);
        }
    }
}
