//! The expected signatures were made with Python's hashlib and hmac.

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const BODY: &str = r#"{"n":0}"#;
const CONCATENATED: &str = "4Ez/v10BSYiTQrgp5jUfXddFrXF+gT6xV4SEzs3uBY0=";
const CONCATENATED_WITH_NEWLINE: &str = "mxE63E2HDJEubTTUszXONZEapZ7R/ouyy8FRDuEUdRY=";
const KEYED: &str = "DdWZCkcfqf3idDbpDHh7xE9ThlcD3341L+LTzdEFtPo=";
const KEYED_HEX: &str = "0dd5990a471fa9fde27436e90c787bc44f53865703df7e352fe2d3cdd105b4fa";

fn verifier(secrets: &[&str], accept: Accept) -> Verifier {
    Verifier::new(&secrets.iter().map(|secret| Secret::new(*secret)).collect::<Vec<_>>(), accept)
}

fn e2b(signature: &str) -> Presented<'_> {
    Presented { e2b_signature: vec![signature.as_bytes()], ..Presented::default() }
}

fn x_e2b(signature: &str) -> Presented<'_> {
    Presented { x_e2b_signature: vec![signature.as_bytes()], ..Presented::default() }
}

fn judge(accept: Accept, presented: &Presented<'_>) -> Result<Dialect, Refusal> {
    verifier(&[SECRET], accept).verify(presented, Bytes::from(BODY)).map(|verified| verified.dialect())
}

#[test]
fn each_dialect_takes_its_own_signature_and_no_other() {
    for (accept, presented, expected) in [
        (Accept::Auto, e2b(CONCATENATED), Ok(Dialect::E2b)),
        (Accept::Auto, x_e2b(KEYED_HEX), Ok(Dialect::Hmac)),
        (Accept::Auto, e2b(KEYED), Err(Refusal::Wrong)),
        (Accept::E2b, e2b(CONCATENATED), Ok(Dialect::E2b)),
        (Accept::E2b, e2b(KEYED), Err(Refusal::Wrong)),
        (Accept::E2b, x_e2b(KEYED_HEX), Err(Refusal::Missing)),
        (Accept::E2bHmac, e2b(KEYED), Ok(Dialect::E2bHmac)),
        (Accept::E2bHmac, e2b(CONCATENATED), Err(Refusal::Wrong)),
        (Accept::Hmac, x_e2b(KEYED_HEX), Ok(Dialect::Hmac)),
        (Accept::Hmac, e2b(CONCATENATED), Err(Refusal::Missing)),
        (Accept::Auto, Presented::default(), Err(Refusal::Missing)),
    ] {
        assert_eq!(judge(accept, &presented), expected, "{accept:?} {presented:?}");
    }
}

#[test]
fn every_spelling_of_the_same_32_bytes_is_taken() {
    for signature in [
        CONCATENATED.to_owned(),
        CONCATENATED.trim_end_matches('=').to_owned(),
        CONCATENATED.replace('+', "-").replace('/', "_"),
        CONCATENATED.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned(),
    ] {
        assert_eq!(judge(Accept::E2b, &e2b(&signature)), Ok(Dialect::E2b), "{signature}");
    }
    assert_eq!(judge(Accept::Hmac, &x_e2b(&KEYED_HEX.to_uppercase())), Ok(Dialect::Hmac));
}

#[test]
fn what_is_not_32_bytes_is_unreadable() {
    for signature in
        ["", "=", "AAAA", &"A".repeat(42), &"A".repeat(44), &format!("{CONCATENATED}="), " ", "ümlaut", KEYED_HEX]
    {
        assert_eq!(judge(Accept::E2b, &e2b(signature)), Err(Refusal::Unreadable), "{signature:?}");
    }
    for signature in
        ["", "0", &KEYED_HEX[1..], &KEYED_HEX[2..], &format!("{KEYED_HEX}00"), &KEYED_HEX.replace('0', "g"), KEYED]
    {
        assert_eq!(judge(Accept::Hmac, &x_e2b(signature)), Err(Refusal::Unreadable), "{signature:?}");
    }
}

#[test]
fn repeated_mixed_and_foreign_headers_are_refused_though_the_signature_is_right() {
    let right = CONCATENATED.as_bytes();
    let twice = Presented { e2b_signature: vec![right, right], ..Presented::default() };
    assert_eq!(judge(Accept::Auto, &twice), Err(Refusal::Repeated));
    let both = Presented { x_e2b_signature: vec![KEYED_HEX.as_bytes()], ..e2b(CONCATENATED) };
    for accept in [Accept::Auto, Accept::E2b, Accept::Hmac, Accept::E2bHmac] {
        assert_eq!(judge(accept, &both), Err(Refusal::BothDialects));
    }
    let version = |version: &'static [u8]| Presented { e2b_signature_version: vec![version], ..e2b(CONCATENATED) };
    assert_eq!(judge(Accept::Auto, &version(b"v1")), Ok(Dialect::E2b));
    for unknown in [b"v2".as_slice(), b"V1", b"", b"v1, v1", b"\xff"] {
        assert_eq!(judge(Accept::Auto, &version(unknown)), Err(Refusal::UnknownVersion), "{unknown:?}");
    }
    let versions = Presented { e2b_signature_version: vec![b"v1", b"v1"], ..e2b(CONCATENATED) };
    assert_eq!(judge(Accept::Auto, &versions), Err(Refusal::Repeated));
}

#[test]
fn any_of_several_secrets_may_have_signed() {
    let others = ["an old secret of enough length", "another secret of enough length"];
    for place in 0..=others.len() {
        let mut secrets = others.to_vec();
        secrets.insert(place, SECRET);
        let verified = verifier(&secrets, Accept::Auto).verify(&e2b(CONCATENATED), Bytes::from(BODY)).expect("signed");
        assert_eq!(verified.secret(), place);
    }
    let wrong = verifier(&others, Accept::Auto).verify(&e2b(CONCATENATED), Bytes::from(BODY));
    assert_eq!(wrong.map(|_| ()), Err(Refusal::Wrong));
    let none = verifier(&[], Accept::Auto).verify(&e2b(CONCATENATED), Bytes::from(BODY));
    assert_eq!(none.map(|_| ()), Err(Refusal::Wrong));
}

#[test]
fn one_changed_bit_of_body_or_signature_is_refused() {
    let verifier = verifier(&[SECRET], Accept::Hmac);
    for bit in 0..BODY.len() * 8 {
        let mut body = BODY.as_bytes().to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verifier.verify(&x_e2b(KEYED_HEX), body.into()).map(|_| ()), Err(Refusal::Wrong));
    }
    for bit in 0..256 {
        let mut signature = from_hex_digits(KEYED_HEX);
        signature[bit / 8] ^= 1 << (bit % 8);
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(verifier.verify(&x_e2b(&hex), Bytes::from(BODY)).map(|_| ()), Err(Refusal::Wrong));
    }
}

fn from_hex_digits(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn a_secret_longer_than_a_block_is_hashed_first() {
    let verifier = verifier(&[&"k".repeat(100)], Accept::Hmac);
    let signature = "248ed802ff0e991fb07b91eb3fb81bb195549797d6d5ecf63f509160ea26a7d7";
    assert!(verifier.verify(&x_e2b(signature), Bytes::from(BODY)).is_ok());
}

#[test]
fn the_bodys_digest_is_lower_case_hex() {
    let verified = verifier(&[SECRET], Accept::Auto).verify(&e2b(CONCATENATED), Bytes::from(BODY)).expect("signed");
    assert_eq!(verified.sha256_hex(), "f3013f933b9fb80ab6d995e7ad9da36f683837ba1d81e950c943d40111eac2f0");
}

fn near_miss(accept: Accept, secret: &str, presented: &Presented<'_>) -> Option<NearMiss> {
    let other = verifier(&[SECRET], Accept::Auto);
    verifier(&[secret], accept).diagnose(presented, BODY.as_bytes(), [("other", &other)].into_iter()).near_miss
}

#[test]
fn near_misses_are_named() {
    let newline = format!("{SECRET}\n");
    for (accept, secret, presented, expected) in [
        (Accept::Auto, SECRET, e2b(CONCATENATED_WITH_NEWLINE), Some(NearMiss::WhiteSpaceAtTheEnd)),
        (Accept::Auto, &newline, e2b(CONCATENATED), Some(NearMiss::WhiteSpaceAtTheEnd)),
        (Accept::Auto, SECRET, e2b(KEYED), Some(NearMiss::Dialect(Dialect::E2bHmac))),
        (Accept::E2bHmac, SECRET, e2b(CONCATENATED), Some(NearMiss::Dialect(Dialect::E2b))),
        (Accept::Hmac, SECRET, e2b(CONCATENATED), Some(NearMiss::Dialect(Dialect::E2b))),
        (Accept::E2b, SECRET, x_e2b(KEYED_HEX), Some(NearMiss::Dialect(Dialect::Hmac))),
        (Accept::Auto, SECRET, e2b(KEYED_HEX), Some(NearMiss::Spelling(Dialect::E2bHmac))),
        (Accept::Auto, SECRET, x_e2b(KEYED), Some(NearMiss::Spelling(Dialect::E2bHmac))),
        (
            Accept::Auto,
            "quite another secret, long enough",
            e2b(CONCATENATED),
            Some(NearMiss::Source("other".to_owned())),
        ),
        (Accept::Auto, SECRET, e2b("AAAA"), None),
        (Accept::Auto, SECRET, Presented::default(), None),
    ] {
        assert_eq!(near_miss(accept, secret, &presented), expected, "{accept:?} {presented:?}");
    }
    let version = Presented { e2b_signature_version: vec![b"v2"], ..e2b(CONCATENATED) };
    assert_eq!(near_miss(Accept::Auto, SECRET, &version), None, "the version is wrong, not the secret");
}

#[test]
fn a_diagnosis_tells_length_alphabet_and_version_and_no_secret() {
    let seen = |presented: &Presented<'_>| {
        let line =
            verifier(&[SECRET], Accept::Auto).diagnose(presented, BODY.as_bytes(), std::iter::empty()).to_string();
        assert!(!line.contains(SECRET) && !line.contains(BODY), "{line}");
        line
    };
    assert_eq!(seen(&Presented::default()), "no signature header, version absent");
    assert_eq!(
        seen(&Presented { e2b_signature_version: vec![b"v2"], ..e2b(CONCATENATED) }),
        "e2b-signature of 44 characters, base64 with the standard alphabet, 32 bytes decoded, version v2"
    );
    assert_eq!(seen(&e2b("AAAA")), "e2b-signature of 4 characters, base64, 3 bytes decoded, version absent");
    assert_eq!(
        seen(&Presented { e2b_signature_version: vec![b"\x1b[31m"], ..x_e2b("!") }),
        "X-E2B-Signature of 1 characters, neither base64 nor hex, version unprintable"
    );
    assert_eq!(
        seen(&e2b(KEYED)),
        "e2b-signature of 44 characters, base64 with the standard alphabet, 32 bytes decoded, version absent; \
         would match with signature: e2b-hmac"
    );
}

#[test]
fn a_fingerprint_is_of_the_secret_and_its_salt_and_shows_neither() {
    let (one, other) =
        (Secret::new("0123456789abcdef0123456789abcdef"), Secret::new("another secret, 32 bytes or more"));
    let print = fingerprint(&one, "a");
    // By `printf 'fingerprint a' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef`.
    assert_eq!(print, "a165a8a83fd37bf40dbdb56cb58fb3bf62c77950e21048bc52f3aab2563c11ac");
    assert_ne!(print, fingerprint(&one, "b"));
    assert_ne!(print, fingerprint(&other, "a"));
}
