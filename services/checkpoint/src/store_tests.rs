#![allow(clippy::unwrap_used)]
use super::*;

fn config(url: &str, keep: usize) -> StoreConfig {
    StoreConfig {
        url: url.to_owned(),
        endpoint: None,
        region: None,
        allow_http: false,
        request_timeout: Duration::from_secs(60),
        keep,
    }
}

fn offsets(entries: &[Entry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.offset).collect()
}

#[tokio::test]
async fn a_directory_keeps_the_newest_of_each_partition() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made/here");
    let store = Store::open(&config(root.to_str().unwrap(), 3)).unwrap();
    assert_eq!(store.list("log", 0).await.unwrap(), []);
    let begun = std::time::SystemTime::now() - std::time::Duration::from_secs(1_000);
    for (n, offset) in (0..).zip([7, 1_000_000_000_000, 9, 30, 100]) {
        store.put("log", 0, offset, offset.to_string().into_bytes()).await.unwrap();
        // Some file systems tell times apart by milliseconds only.
        let file = std::fs::File::options()
            .append(true)
            .open(root.join(format!("log/0/{offset:019}.ckpt")))
            .unwrap();
        file.set_modified(begun + std::time::Duration::from_secs(n)).unwrap();
    }
    store.put("log", 1, 5, b"other".to_vec()).await.unwrap();
    // What was written first goes first, whatever its offset.
    assert_eq!(offsets(&store.list("log", 0).await.unwrap()), [100, 30, 9]);
    assert_eq!(offsets(&store.list("log", 1).await.unwrap()), [5]);
    assert_eq!(store.get("log", 0, 30).await.unwrap().unwrap(), "30");
    assert_eq!(store.get("log", 0, 7).await.unwrap(), None);
    let file = root.join("log/0/0000000000000000100.ckpt");
    assert_eq!(std::fs::read(&file).unwrap(), b"100");
    store.put("log", 0, 100, b"again".to_vec()).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"again");
    // Files of other names are nobody's checkpoint.
    std::fs::write(root.join("log/0/notes.txt"), "").unwrap();
    std::fs::write(root.join("log/0/x.ckpt"), "").unwrap();
    assert_eq!(offsets(&store.list("log", 0).await.unwrap()), [100, 30, 9]);
}

#[tokio::test]
async fn what_lies_there_is_found_by_its_address_too() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().to_str().unwrap();
    Store::open(&config(plain, 1))
        .unwrap()
        .put("log", 2, 4, b"x".to_vec())
        .await
        .unwrap();
    let store = Store::open(&config(&format!("file://{plain}"), 1)).unwrap();
    assert_eq!(store.get("log", 2, 4).await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn a_directory_that_is_gone_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let store = Store::open(&config(root.to_str().unwrap(), 1)).unwrap();
    std::fs::remove_dir(&root).unwrap();
    std::fs::write(&root, "").unwrap();
    let said = store.put("log", 0, 1, Vec::new()).await.unwrap_err().to_string();
    assert!(
        said.contains(root.to_str().unwrap()) && said.contains("cannot write log/0/"),
        "{said}"
    );
}

#[test]
fn addresses_that_are_none_are_refused() {
    for url in ["s3://", "s3:///prefix", "gs://bucket", "file://relative"] {
        let said = Store::open(&config(url, 1)).unwrap_err().to_string();
        assert!(said.starts_with(&format!("checkpoint.url {url}: ")), "{said}");
    }
}
