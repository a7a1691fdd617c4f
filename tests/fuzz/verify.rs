//! Signatures: against the other witness of `support::sign`, whatever stands in the headers.
//!
//! An input is lines `name: value`, an empty line, and the body. `accept` is what the source takes.

use super::{Outcome, Target};
use crate::support::sign;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use e2b_relay::secret::Secret;
use e2b_relay::verify::{Accept, Dialect, Presented, Refusal, Verified, Verifier};
use fastrand::Rng;
use sha2::Digest;

const SECRETS: [&str; 2] = [
    "0123456789abcdef0123456789abcdef",
    "a second secret, which is longer than the 64 bytes of one block of SHA-256 are",
];
const STRANGER: &str = "a secret that nobody was ever given";
const DIALECTS: [Dialect; 3] = [Dialect::E2b, Dialect::E2bHmac, Dialect::Hmac];

#[test]
fn what_is_accepted_was_signed_and_what_was_signed_is_accepted() {
    Target { name: "verify", rounds: 4_000, minutes: 10, seeds: Vec::new() }.fuzz(check);
}

fn check(input: &[u8], random: &mut Rng) -> Outcome {
    let Delivery { accept, presented, body } = Delivery::read(input);
    let verifier = verifier(accept);
    let judged = verifier.verify(&presented, Bytes::copy_from_slice(body));
    let expected = expected(accept, &presented, body);
    match (&judged, &expected) {
        (Ok(verified), Ok(expected)) => assert_eq!((verified.dialect(), verified.secret()), *expected),
        // Which of both it is depends on how far the text can be read; neither is accepted.
        (Err(Refusal::Unreadable | Refusal::Wrong), Err(Refusal::Wrong)) => {}
        (Err(refusal), Err(expected)) => assert_eq!(refusal, expected),
        _ => panic!("{judged:?}, where {expected:?} is right"),
    }
    whatever_was_signed_is_accepted_and_nothing_near_it(body, random);
    match judged {
        Ok(verified) => {
            assert_eq!(verified.body(), body);
            assert_eq!(verified.sha256_hex(), hex(&sha2::Sha256::digest(body)));
            Ok(format!("{accept:?} {:?} {}", verified.dialect(), verified.secret()))
        }
        Err(refusal) => {
            let stranger = Verifier::new(&[Secret::new(STRANGER)], Accept::Auto);
            let diagnosis = verifier.diagnose(&presented, body, [("other", &stranger)].into_iter());
            let said = diagnosis.to_string();
            assert!(SECRETS.iter().chain([&STRANGER]).all(|secret| !said.contains(secret)), "{said}");
            assert!(said.len() < 400, "{said}");
            Err(format!("{accept:?} {refusal:?} {:?} {:?}", diagnosis.alphabet, diagnosis.near_miss))
        }
    }
}

fn verifier(accept: Accept) -> Verifier {
    Verifier::new(&SECRETS.map(Secret::new), accept)
}

/// What one delivery says of itself.
struct Delivery<'a> {
    accept: Accept,
    presented: Presented<'a>,
    body: &'a [u8],
}

impl<'a> Delivery<'a> {
    fn read(input: &'a [u8]) -> Self {
        let (mut accept, mut presented, mut rest) = (Accept::Auto, Presented::default(), input);
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
            let (name, value) = line.split_at(colon);
            let value = value.strip_prefix(b": ").unwrap_or(value);
            match name {
                b"e2b-signature" => presented.e2b_signature.push(value),
                b"x-e2b-signature" => presented.x_e2b_signature.push(value),
                b"e2b-signature-version" => presented.e2b_signature_version.push(value),
                _ => {
                    accept = match value {
                        b"e2b" => Accept::E2b,
                        b"hmac" => Accept::Hmac,
                        b"e2b-hmac" => Accept::E2bHmac,
                        _ => accept,
                    }
                }
            }
        }
        Self { accept, presented, body: rest }
    }
}

/// The rules of the contract, told once more.
fn expected(accept: Accept, presented: &Presented<'_>, body: &[u8]) -> Result<(Dialect, usize), Refusal> {
    let Presented { e2b_signature: base64, x_e2b_signature: hex, e2b_signature_version: versions } = presented;
    if base64.len() > 1 || hex.len() > 1 || versions.len() > 1 {
        return Err(Refusal::Repeated);
    }
    if !base64.is_empty() && !hex.is_empty() {
        return Err(Refusal::BothDialects);
    }
    if versions.iter().any(|version| *version != b"v1") {
        return Err(Refusal::UnknownVersion);
    }
    let (dialect, given) = match accept {
        Accept::Auto if !hex.is_empty() => (Dialect::Hmac, hex),
        Accept::Hmac => (Dialect::Hmac, hex),
        Accept::Auto | Accept::E2b => (Dialect::E2b, base64),
        Accept::E2bHmac => (Dialect::E2bHmac, base64),
    };
    let given = given.first().ok_or(Refusal::Missing)?;
    let is_spelled = |secret: &str| match dialect {
        Dialect::Hmac => sign::hmac(secret, body).1.as_bytes().eq_ignore_ascii_case(given),
        _ => spellings(dialect, secret, body).iter().any(|spelling| spelling.as_bytes() == *given),
    };
    let secret = SECRETS.iter().position(|secret| is_spelled(secret));
    secret.map(|secret| (dialect, secret)).ok_or(Refusal::Wrong)
}

/// Everything that a signature may look like.
fn spellings(dialect: Dialect, secret: &str, body: &[u8]) -> Vec<String> {
    let text = match dialect {
        Dialect::E2b => sign::e2b(secret, body).1,
        Dialect::E2bHmac => sign::e2b_hmac(secret, body).1,
        Dialect::Hmac => {
            let text = sign::hmac(secret, body).1;
            return vec![text.to_uppercase(), text];
        }
    };
    let bytes = STANDARD.decode(format!("{}=", text.trim_end_matches('='))).unwrap();
    let padded = [STANDARD.encode(&bytes), URL_SAFE.encode(&bytes)];
    padded.iter().flat_map(|text| [text.clone(), text.trim_end_matches('=').to_owned()]).collect()
}

fn verify(dialect: Dialect, signature: &[u8], body: &[u8]) -> Result<Verified, Refusal> {
    let (accept, mut presented) = match dialect {
        Dialect::E2b => (Accept::E2b, Presented::default()),
        Dialect::E2bHmac => (Accept::E2bHmac, Presented::default()),
        Dialect::Hmac => (Accept::Hmac, Presented::default()),
    };
    match dialect {
        Dialect::Hmac => presented.x_e2b_signature.push(signature),
        _ => presented.e2b_signature.push(signature),
    }
    verifier(accept).verify(&presented, Bytes::copy_from_slice(body))
}

fn whatever_was_signed_is_accepted_and_nothing_near_it(body: &[u8], random: &mut Rng) {
    let dialect = DIALECTS[random.usize(..DIALECTS.len())];
    let secret = random.usize(..SECRETS.len());
    let spellings = spellings(dialect, SECRETS[secret], body);
    let signature = spellings[random.usize(..spellings.len())].as_bytes();
    let verified = verify(dialect, signature, body).expect("signed");
    assert_eq!((verified.dialect(), verified.secret(), &verified.body()[..]), (dialect, secret, body));

    // Another body, another byte of the signature, another secret.
    let mut changed = body.to_vec();
    match random.u8(..3) {
        0 if !changed.is_empty() => changed[random.usize(..body.len())] ^= 1 << random.u8(..8),
        1 if !changed.is_empty() => drop(changed.pop()),
        _ => changed.insert(random.usize(..=body.len()), random.u8(..)),
    }
    assert_eq!(verify(dialect, signature, &changed).map(|_| ()), Err(Refusal::Wrong), "of {changed:?}");
    let mut mangled = signature.to_vec();
    match random.u8(..3) {
        0 => mangled[random.usize(..signature.len())] = random.u8(..),
        1 => drop(mangled.pop()),
        _ => mangled.insert(random.usize(..=signature.len()), random.u8(..)),
    }
    let is_same = match dialect {
        Dialect::Hmac => mangled.eq_ignore_ascii_case(signature),
        _ => spellings.iter().any(|spelling| spelling.as_bytes() == mangled),
    };
    assert_eq!(verify(dialect, &mangled, body).is_ok(), is_same, "{:?}", mangled.escape_ascii().to_string());
    let foreign = &self::spellings(dialect, STRANGER, body)[0];
    assert_eq!(verify(dialect, foreign.as_bytes(), body).map(|_| ()), Err(Refusal::Wrong));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
