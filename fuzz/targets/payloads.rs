#![no_main]

#[path = "../checks/payloads.rs"]
mod checks;
#[path = "../../tools/support/frame.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod frame;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::check(input));
