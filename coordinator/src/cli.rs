pub mod pki;
pub mod status;
