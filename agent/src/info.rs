//! PURE: what a server says in `INFO`.

use baton_proto::report::Running;

/// The fields of an `INFO`.
#[derive(Debug, Clone, Default)]
pub struct Info {}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unimplemented")]
pub struct InfoError;

impl Info {
    pub fn parse(text: &str) -> Info {
        unimplemented!()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        unimplemented!()
    }

    /// A field as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        unimplemented!()
    }

    pub fn flag(&self, name: &str) -> bool {
        unimplemented!()
    }
}

pub fn parse_running(info: &str) -> Result<Running, InfoError> {
    unimplemented!()
}
