//! One decoder, named by the environment, so that a new one needs no file here.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static CHECK: LazyLock<fn(&[u8]) -> bool> = LazyLock::new(|| {
    let name = std::env::var("BATON_DECODER").expect("BATON_DECODER names a target of baton-decoders");
    baton_decoders::target(&name).check
});

fuzz_target!(|bytes: &[u8]| {
    CHECK(bytes);
});
