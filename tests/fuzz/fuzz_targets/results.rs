#![no_main]

// Panics of the Arrow library are caught where it is called; the fuzzer's own hook would end the process before that. One that nobody
// catches still does.
libfuzzer_sys::fuzz_target!(init: { std::panic::set_hook(Box::new(|_| {})) }, |data: &[u8]| peakdesk_fuzz::results(data));
