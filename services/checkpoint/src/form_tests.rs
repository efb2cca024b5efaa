#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type State = BTreeMap<u32, (String, i128, Option<Vec<u8>>)>;

fn head() -> impl Strategy<Value = Head> {
    (any::<u32>(), ".{0,20}", any::<i32>(), any::<i64>(), any::<u128>(), any::<i64>()).prop_map(
        |(state_version, topic, partition, offset, last_message, taken_at_ms)| Head {
            state_version,
            topic,
            partition,
            offset,
            last_message,
            taken_at_ms,
        },
    )
}

fn state() -> impl Strategy<Value = State> {
    let value = (".{0,8}", any::<i128>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..9)));
    prop::collection::btree_map(any::<u32>(), value, 0..12)
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_written(head in head(), state in state()) {
        let bytes = encode(&head, &state).unwrap();
        let read: (Head, State) = decode(&bytes, head.state_version).unwrap();
        prop_assert_eq!(read, (head, state));
    }

    #[test]
    fn a_state_of_another_version_is_refused(head in head(), state in state(), other: u32) {
        prop_assume!(other != head.state_version);
        let bytes = encode(&head, &state).unwrap();
        let refused = decode::<State>(&bytes, other).unwrap_err();
        let named = matches!(refused, FormError::State { found, expected } if (found, expected) == (head.state_version, other));
        prop_assert!(named, "{}", refused);
    }

    #[test]
    fn no_single_changed_byte_passes(head in head(), state in state(), flip in 1u8..) {
        let bytes = encode(&head, &state).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            prop_assert!(decode::<State>(&bytes, head.state_version).is_err(), "byte {} ^ {}", at, flip);
        }
    }

    #[test]
    fn nothing_shorter_or_longer_passes(head in head(), state in state(), more in prop::collection::vec(any::<u8>(), 1..40)) {
        let bytes = encode(&head, &state).unwrap();
        for len in 0..bytes.len() {
            prop_assert!(decode::<State>(&bytes[..len], head.state_version).is_err(), "{} of {} bytes", len, bytes.len());
        }
        let longer: Vec<u8> = bytes.into_iter().chain(more).collect();
        prop_assert!(decode::<State>(&longer, head.state_version).is_err());
    }

    #[test]
    fn other_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), begins_well: bool) {
        let mut file = if begins_well { [MAGIC.as_slice(), &FORM_VERSION.to_le_bytes()].concat() } else { Vec::new() };
        file.extend(bytes);
        prop_assert!(decode::<State>(&file, 1).is_err());
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let head = Head {
        state_version: 3,
        topic: "log".into(),
        partition: 1,
        offset: 7,
        last_message: 5,
        taken_at_ms: 0,
    };
    let good = encode(&head, &State::new()).unwrap();
    let said = |bytes: &[u8]| decode::<State>(bytes, 3).unwrap_err().to_string();
    assert_eq!(said(b"PAR1"), "not a checkpoint: it does not begin like one");
    let mut newer = good.clone();
    newer[8] = 9;
    assert_eq!(said(&newer), "written in form 9, this version reads 1");
    let cut = &good[..good.len() - 1];
    assert_eq!(
        said(cut),
        format!("damaged: the checksum of its {} bytes does not fit", good.len() - 1)
    );
    assert_eq!(
        decode::<State>(&good, 4).unwrap_err().to_string(),
        "holds a state of version 3, this version goes on from 4"
    );
}
