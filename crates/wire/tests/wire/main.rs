//! The codec against the schemas, against another implementation, and against hostile bytes.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]
#[path = "../../../xtask/src/codegen_wire_schema.rs"]
mod schema;

mod arbitrary;
mod debug_tree;
mod differential;
mod frames;
mod golden;
mod java_golden;
mod malformed;
mod records;
