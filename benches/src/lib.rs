//! Nothing here: the benches are in `benches/`. Run them with `cargo bench -p peakdesk-benches`.
