#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use peakdesk_runtime::config::Config;
use peakdesk_runtime::layers::Sources;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));
const TOKEN: &str = "a-token-of-the-chief";

fn auth_of(mode: &str, sets: &[&str]) -> Auth {
    let users = tempfile::NamedTempFile::new().unwrap();
    let hash = blake3::Hash::from_bytes(*TokenHash::of(TOKEN).as_bytes()).to_hex();
    let text = format!(
        "[[user]]\nname = \"chief 长\"\nrole = \"supervisor\"\nshops = [\"s1\"]\ntoken_sha256 = \"{hash}\"\n\
         [[group]]\nname = \"viewers\"\nrole = \"viewer\"\nshops = [\"s2\"]\n"
    );
    std::fs::write(users.path(), text).unwrap();
    let mut sources = Sources::default();
    sources.sets.push(format!("console.auth={mode}"));
    sources.sets.push(format!("console.users_file={}", users.path().display()));
    sources.sets.extend(sets.iter().map(|set| (*set).to_owned()));
    let config = Config::load(&sources).unwrap();
    Auth::new(&config.console, crate::shared::check(&config).unwrap()).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

fn cookie(auth: &Auth, now_ms: i64) -> String {
    let user = auth.by_token(PEER, TOKEN, now_ms).unwrap();
    let set = auth.begin(&user, now_ms).unwrap();
    set.split(';').next().unwrap().to_owned()
}

#[test]
fn a_token_or_a_session_tells_who_asks() {
    let auth = auth_of("token", &["console.session=1h"]);
    let bearer = headers(&[("authorization", &format!("Bearer {TOKEN}"))]);
    let known = auth.identify(PEER, &bearer, 0).unwrap();
    assert_eq!((known.user.name.as_str(), known.until_ms), ("chief 长", None));
    let session = headers(&[("cookie", &format!("other=1; {}; more=2", cookie(&auth, 1_000)))]);
    let known = auth.identify(PEER, &session, 2_000).unwrap();
    assert_eq!((known.user.name.as_str(), known.until_ms), ("chief 长", Some(3_601_000)));
    assert_eq!(auth.identify(PEER, &session, 3_601_000).unwrap_err(), Refusal::Unknown);
    assert_eq!(auth.identify(PEER, &headers(&[]), 0).unwrap_err(), Refusal::Unknown);
    // Headers of a proxy mean nothing here.
    let proxied = headers(&[("x-forwarded-user", "chief 长".replace('长', "x").as_str())]);
    assert_eq!(auth.identify(PROXY, &proxied, 0).unwrap_err(), Refusal::Unknown);
}

#[test]
fn the_cookie_is_for_this_origin_and_no_script() {
    let auth = auth_of("token", &[]);
    let user = auth.by_token(PEER, TOKEN, 0).unwrap();
    let set = auth.begin(&user, 0).unwrap();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Secure", "; Path=/", "; Max-Age=43200"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains(TOKEN) && auth.end().contains("Max-Age=0"));
    assert!(!auth_of("token", &["console.secure_cookie=false"]).end().contains("Secure"));
}

#[test]
fn a_session_that_was_changed_in_any_place_is_none() {
    let auth = auth_of("token", &[]);
    let good = cookie(&auth, 0);
    assert!(auth.identify(PEER, &headers(&[("cookie", &good)]), 1).is_ok());
    for at in COOKIE.len() + 1..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        let changed = String::from_utf8(bytes).unwrap();
        // The last character of base64 may hold bits that mean nothing.
        let same_name = changed.split('.').skip(1).eq(good.split('.').skip(1));
        let outcome = auth.identify(PEER, &headers(&[("cookie", &changed)]), 1);
        assert!(outcome.is_err() || same_name, "{changed}");
    }
    for bad in ["", ".", "..", "a.b.c", "....", &"x".repeat(5_000)] {
        assert!(auth.identify(PEER, &headers(&[("cookie", &format!("{COOKIE}={bad}"))]), 1).is_err());
    }
    assert!(auth.identify(PEER, &headers(&[("cookie", &format!("{good}.x"))]), 1).is_err());
    // Of another key.
    assert!(auth_of("token", &[]).identify(PEER, &headers(&[("cookie", &good)]), 1).is_err());
}

#[test]
fn consoles_with_the_same_key_know_each_others_sessions() {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), format!("{}\n", "0f".repeat(32))).unwrap();
    let set = format!("console.session_key_file={}", key.path().display());
    let (one, other) = (auth_of("token", &[&set]), auth_of("token", &[&set]));
    assert!(other.identify(PEER, &headers(&[("cookie", &cookie(&one, 0))]), 1).is_ok());
}

#[test]
fn too_many_wrong_tokens_make_an_address_wait() {
    let auth = auth_of("token", &[]);
    let wrong = headers(&[("authorization", "Bearer nonsense")]);
    let right = headers(&[("authorization", &format!("Bearer {TOKEN}"))]);
    let session = headers(&[("cookie", &cookie(&auth, 0))]);
    for _ in 0..FAILURES_MAX {
        assert_eq!(auth.identify(PEER, &wrong, 5).unwrap_err(), Refusal::Unknown);
    }
    assert_eq!(
        auth.identify(PEER, &wrong, 1_005).unwrap_err(),
        Refusal::TooMany { retry_after_s: 59 }
    );
    // Who has a right one, is logged in or is elsewhere is not kept out.
    assert!(auth.identify(PEER, &right, 1_005).is_ok() && auth.identify(PEER, &session, 5).is_ok());
    assert_eq!(auth.identify(PROXY, &wrong, 5).unwrap_err(), Refusal::Unknown);
    assert!(auth.identify(PEER, &right, 5 + FAILURES_WINDOW_MS).is_ok());
    assert_eq!(auth.identify(PEER, &wrong, 5 + FAILURES_WINDOW_MS).unwrap_err(), Refusal::Unknown);
    for bad in ["Basic abc", "Bearer ", "", "bearer", &"x".repeat(9_000)] {
        assert!(auth.identify(PROXY, &headers(&[("authorization", bad)]), 5).is_err());
    }
}

#[test]
fn addresses_that_fail_are_bounded() {
    let mut failures = Failures::default();
    for n in 0..ADDRESSES_MAX as u32 + 500 {
        failures.note(IpAddr::V4(n.into()), 0);
    }
    assert_eq!(failures.by_address.len(), ADDRESSES_MAX);
    failures.note(PEER, FAILURES_WINDOW_MS);
    assert_eq!(failures.by_address.len(), 1);
    // A network of IPv6 is one.
    let (a, b): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:1".parse().unwrap());
    assert_eq!(network(a), network(b));
    assert_eq!(network("::ffff:192.0.2.7".parse().unwrap()), PEER);
}

#[test]
fn a_proxy_is_believed_and_nobody_else() {
    let auth = auth_of("proxy", &["console.trusted_proxies=10.0.0.0/8, 2001:db8::5"]);
    let asked = headers(&[("x-forwarded-user", "li"), ("x-forwarded-groups", "others, viewers")]);
    assert_eq!(auth.identify(PEER, &asked, 0).unwrap_err(), Refusal::NotProxy);
    let li = auth.identify(PROXY, &asked, 0).unwrap().user;
    assert!(li.name == "li" && li.sees_shop("s2") && !li.sees_shop("s1"));
    assert!(auth.identify("::ffff:10.9.9.9".parse().unwrap(), &asked, 0).is_ok());
    assert!(auth.identify("2001:db8::5".parse().unwrap(), &asked, 0).is_ok());
    assert_eq!(
        auth.identify("2001:db8::6".parse().unwrap(), &asked, 0).unwrap_err(),
        Refusal::NotProxy
    );
    for bad in [
        &[("x-forwarded-user", " ")][..],
        &[],
        &[("x-forwarded-user", "li"), ("x-forwarded-user", "root")],
    ] {
        assert_eq!(auth.identify(PROXY, &headers(bad), 0).unwrap_err(), Refusal::Unknown);
    }
    // A token means nothing here.
    let bearer = headers(&[("authorization", &format!("Bearer {TOKEN}"))]);
    assert_eq!(auth.identify(PROXY, &bearer, 0).unwrap_err(), Refusal::Unknown);
    let nobody = auth.identify(PROXY, &headers(&[("x-forwarded-user", "eve")]), 0).unwrap().user;
    assert_eq!(nobody.role(), None);
}

#[test]
fn without_authentication_only_names_of_this_machine_are_answered() {
    let auth = auth_of("none", &[]);
    for host in [
        "localhost",
        "localhost:9464",
        "LOCALHOST",
        "127.0.0.1:9464",
        "127.9.9.9",
        "[::1]:9464",
        "[::1]",
    ] {
        assert!(auth.admits(&headers(&[("host", host)])).is_ok(), "{host}");
    }
    for host in [
        "",
        "evil.example",
        "localhost.evil.example",
        "192.0.2.7",
        "[2001:db8::1]:80",
        "[::1]x",
        "127.0.0.1.nip.io",
        "::1x",
    ] {
        assert_eq!(auth.admits(&headers(&[("host", host)])), Err(Refusal::Host), "{host}");
    }
    assert!(auth.identify(PEER, &headers(&[]), 0).unwrap().user.sees_all());
    assert!(auth_of("token", &[]).admits(&headers(&[("host", "desk.example")])).is_ok());
}
