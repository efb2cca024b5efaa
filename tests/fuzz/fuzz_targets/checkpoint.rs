#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| peakdesk_fuzz::checkpoint(data));
