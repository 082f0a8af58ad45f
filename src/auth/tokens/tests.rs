//! Tokens of all kinds against the keys that they may be checked with.

use jsonwebtoken::{Algorithm, EncodingKey, encode};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData};
use serde_json::json;

use super::*;
use crate::auth::Who;
use crate::auth::keys::Rules;
use crate::settings::Settings;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const LIMITS: ProfileLimits = ProfileLimits { fields_bytes: 2048, metadata_bytes: 2048 };
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn settings(change: impl FnOnce(&mut AuthSettings)) -> AuthSettings {
    let mut settings = Settings::default().auth;
    settings.leeway = Duration::from_secs(10);
    change(&mut settings);
    settings
}

fn claims() -> Value {
    json!({"sub": "ada", "exp": NOW.0 / 1000 + 60})
}

fn signed(claims: &Value, change: impl FnOnce(&mut Header)) -> String {
    let mut header = Header::new(Algorithm::HS256);
    change(&mut header);
    encode(&header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn verify(settings: &AuthSettings, token: &str) -> Result<Identity, Fault> {
    let keys = KeySet::from_secret(SECRET, &Rules::new(settings)).unwrap();
    Tokens::new(settings, LIMITS).verify(&Unverified::read(token)?, &keys, NOW)
}

fn fault(settings: &AuthSettings, claims: &Value) -> Option<Fault> {
    verify(settings, &signed(claims, |_| ())).err()
}

fn user_of(identity: &Identity) -> &str {
    let Who::User(user) = identity.who() else { panic!("{:?}", identity.who()) };
    user.as_str()
}

#[test]
fn a_good_token_says_who_the_client_is() {
    let identity = verify(&settings(|_| ()), &signed(&claims(), |_| ())).unwrap();
    assert_eq!(user_of(&identity), "ada");
    assert_eq!(identity.ends_at(), Some(Timestamp(NOW.0 + 60_000)));
    let left = Tokens::new(&settings(|_| ()), LIMITS).time_left(&identity, NOW);
    assert_eq!(left, Some(Duration::from_secs(70)), "the clocks may differ");
}

#[test]
fn a_token_holds_between_two_times_within_the_leeway() {
    let settings = settings(|_| ());
    let now = NOW.0 / 1000;
    let at = |exp: Value, nbf: Value| fault(&settings, &json!({"sub": "a", "exp": exp, "nbf": nbf}));
    assert_eq!(at(json!(now - 9), json!(now + 10)), None);
    assert_eq!(at(json!(now - 10), json!(now)), Some(Fault::Expired));
    assert_eq!(at(json!(now as f64 - 9.001), json!(now)), None, "a time may have a fraction");
    assert_eq!(at(json!(now as f64 - 10.001), json!(now)), Some(Fault::Expired));
    assert_eq!(at(json!(now + 60), json!(now + 11)), Some(Fault::NotYet));
    assert_eq!(at(json!(u64::MAX), json!(0)), None);
    assert_eq!(at(json!(1e300), json!(0)), Some(Fault::Claim));
    for bad in [json!("1900000000"), json!(null), json!(true), json!(-1), json!([now + 60])] {
        assert_eq!(at(bad.clone(), json!(0)), Some(Fault::Claim), "{bad}");
    }
    assert_eq!(at(json!(now + 60), json!("0")), Some(Fault::Claim));
    assert_eq!(fault(&settings, &json!({"sub": "a"})), Some(Fault::Claim), "a token must end");
}

#[test]
fn a_token_is_expired_only_if_nothing_else_is_wrong() {
    let expired = json!({"sub": "ada", "exp": 1, "iss": "x"});
    assert_eq!(fault(&settings(|_| ()), &expired), Some(Fault::Expired));
    assert_eq!(fault(&settings(|settings| settings.issuer = Some("y".to_owned())), &expired), Some(Fault::Issuer));
    assert_eq!(fault(&settings(|_| ()), &json!({"exp": 1})), Some(Fault::Claim));
}

#[test]
fn issuer_and_audience_must_be_there_if_they_are_asked_for() {
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let strict = settings(|settings| {
        settings.issuer = Some("https://a".to_owned());
    });
    assert_eq!(fault(&strict, &claims()), Some(Fault::Issuer));
    assert_eq!(fault(&strict, &with("iss", json!("https://b"))), Some(Fault::Issuer));
    assert_eq!(fault(&strict, &with("iss", json!("https://a"))), None);
    for issuer in [json!(["https://a"]), json!(["https://a", "https://a"]), json!([]), json!(null), json!(7)] {
        assert_eq!(fault(&strict, &with("iss", issuer.clone())), Some(Fault::Issuer), "{issuer}");
    }
    let strict = settings(|settings| settings.audience = vec!["rollcall".to_owned(), "chat".to_owned()]);
    assert_eq!(fault(&strict, &claims()), Some(Fault::Audience));
    assert_eq!(fault(&strict, &with("aud", json!("other"))), Some(Fault::Audience));
    assert_eq!(fault(&strict, &with("aud", json!(["other", "chat"]))), None);
    // Who is no audience must refuse a token that names one. Source: RFC 7519 §4.1.3
    for audience in [json!("other"), json!(["other"]), json!([]), json!(7), json!({"a": 1}), json!(false)] {
        assert_eq!(fault(&settings(|_| ()), &with("aud", audience.clone())), Some(Fault::Audience), "{audience}");
        assert_eq!(fault(&strict, &with("aud", audience.clone())), Some(Fault::Audience), "{audience}");
    }
}

#[test]
fn the_head_of_a_token_decides_nothing() {
    let settings = settings(|_| ());
    assert_eq!(verify(&settings, &signed(&claims(), |header| header.kid = Some("any".to_owned()))).err(), None);
    let critical = signed(&claims(), |header| header.crit = Some(vec!["exp".to_owned()]));
    assert_eq!(verify(&settings, &critical).err(), Some(Fault::Critical));
    let [_, body, signature] =
        signed(&claims(), |_| ()).split('.').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    // {"alg":"none"}, {"alg":"RS256"}, {"alg":"hs256"}
    for (head, fault) in [
        ("eyJhbGciOiJub25lIn0", Fault::Malformed),
        ("eyJhbGciOiJSUzI1NiJ9", Fault::Algorithm),
        ("eyJhbGciOiJoczI1NiJ9", Fault::Malformed),
    ] {
        assert_eq!(verify(&settings, &format!("{head}.{body}.{signature}")).err(), Some(fault), "{head}");
        assert!(verify(&settings, &format!("{head}.{body}.")).is_err(), "{head}");
    }
    for text in ["", ".", "..", "...", "a.b.c", "a.b.c.d", "\u{0}", "Bearer x"] {
        assert_eq!(verify(&settings, text).err(), Some(Fault::Malformed), "{text:?}");
    }
}

#[test]
fn another_algorithm_of_the_secret_is_refused_if_the_settings_leave_it_out() {
    let settings = settings(|settings| settings.algorithms = vec!["HS512".to_owned()]);
    let token = |algorithm| signed(&claims(), |header| header.alg = algorithm);
    assert_eq!(verify(&settings, &token(Algorithm::HS256)).err(), Some(Fault::Algorithm));
    assert_eq!(verify(&settings, &token(Algorithm::HS512)).err(), None);
}

#[test]
fn a_public_key_of_each_kind_checks_its_own_algorithms_alone() {
    for (kind, algorithm) in [
        (&PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
        (&PKCS_ECDSA_P384_SHA384, Algorithm::ES384),
        (&PKCS_ED25519, Algorithm::EdDSA),
    ] {
        let pair = KeyPair::generate_for(kind).unwrap();
        let private = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(private.as_bytes()).unwrap(),
            _ => EncodingKey::from_ec_pem(private.as_bytes()).unwrap(),
        };
        let settings = settings(|_| ());
        let rules = Rules::new(&settings);
        let keys = KeySet::from_pem(&pair.public_key_pem(), &rules).unwrap();
        let verify =
            |token: &str| Tokens::new(&settings, LIMITS).verify(&Unverified::read(token).unwrap(), &keys, NOW).err();
        assert_eq!(verify(&encode(&Header::new(algorithm), &claims(), &key).unwrap()), None);
        // The public key is no secret, so a token that is signed with it as one is forged.
        for secret in [pair.public_key_pem().into_bytes(), pair.subject_public_key_info(), pair.der_bytes().to_vec()] {
            let forged = encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(&secret)).unwrap();
            assert_eq!(verify(&forged), Some(Fault::Algorithm));
        }
        assert_eq!(KeySet::from_pem(&private, &rules).err(), Some("is a private key: it must be the public one"));
    }
    let rules = Rules::new(&settings(|_| ()));
    for bad in ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(KeySet::from_pem(bad, &rules).is_err(), "{bad}");
    }
    let only_rsa = settings(|settings| settings.algorithms = vec!["RS256".to_owned()]);
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let refused = KeySet::from_pem(&pair.public_key_pem(), &Rules::new(&only_rsa)).err();
    assert_eq!(refused, Some("does not go with auth.algorithms"));
}

/// Public keys of RSA with 1024 and 2047 bits.
const SHORT_KEYS: [&str; 2] = [
    "-----BEGIN PUBLIC KEY-----\n\
     MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCdg2WGaQ/zEboHHlwH9pookNu+\n\
     KN86JQfz6pjDAPy8QDi8eX4eou8CGUXhGvPHuNX0Co1H0ZKdoSNvup2VK+PJpaJf\n\
     jXIIOHMARHfYuCXamNUQI0Xlp4iSh/dEAdeA2gwzEemxIatJtNKw47wh/edrsCtD\n\
     QUd8mtKNJOit7cb+EwIDAQAB\n\
     -----END PUBLIC KEY-----",
    "-----BEGIN PUBLIC KEY-----\n\
     MIIBITANBgkqhkiG9w0BAQEFAAOCAQ4AMIIBCQKCAQBu3wdKEBbFXmcJuYAhtUtL\n\
     W5bU4uux0ubmTSzMq+ARZKYNCATpD3wiC19UzFZNK6ii7XGYTmYruZ8mFSZ6TFJZ\n\
     HtwkP+WqhGveWL8wbOnEtUn9z/O6/JmTm1YpdnR9rff/bLd/Lbh30nE3UPnHXyg4\n\
     9T7Qe3PLIkuxcVZJm7qoqV1D2gBehMX/Nk2zKL3ayPNbDe3Z5pe62TMjqmjfwh4v\n\
     EoeVRXuyy3By2/Na5GhAZTzkVsfgo4y21bjoksHXEh29HgR1PyE0Xfs9TcygnjbB\n\
     cfezzJL3AiJw8fKQF+jnOdMMu/F2vx5zbzwj8DgsSDvqTIv2rphdS6WB9PrKF/gB\n\
     AgMBAAE=\n\
     -----END PUBLIC KEY-----",
];

#[test]
fn a_key_of_rsa_that_is_too_short_or_too_long_is_none() {
    let rules = Rules::new(&settings(|_| ()));
    for pem in SHORT_KEYS {
        let refused = KeySet::from_pem(pem, &rules).err();
        assert_eq!(refused, Some("must have 2048 to 8192 bits if it is a key of RSA"), "{pem}");
    }
    // Four digits of base64 are 24 bits, and "_" is six ones.
    let set = |modulus: &str| {
        let key = json!({"kty": "RSA", "n": modulus, "e": "AQAB", "kid": "a"});
        KeySet::from_jwks(json!({ "keys": [key] }).to_string().as_bytes(), &rules).err()
    };
    let (none, ones) = (Some("has no key that can be used here"), "_".repeat(339));
    for (modulus, fault) in [
        ("_".repeat(340) + "_w", None),
        ("g".to_owned() + &ones + "_w", None),
        // One bit less, zeros before it, half of it, and nothing.
        ("f".to_owned() + &ones + "_w", none),
        ("AAAA_".to_owned() + &ones + "_w", none),
        ("_".repeat(170) + "8", none),
        ("_".repeat(1368), none),
        (String::new(), none),
    ] {
        assert_eq!(set(&modulus), fault, "{modulus}");
    }
    assert_eq!(set(&("_".repeat(1364) + "_w")), None, "8192 bits");
}

#[test]
fn of_what_an_issuer_shows_only_public_keys_for_signatures_count() {
    let rules = Rules::new(&settings(|_| ()));
    let point = "A".repeat(43);
    let key = json!({"kty": "EC", "crv": "P-256", "x": point, "y": point, "kid": "a"});
    let with = |changes: Value| {
        let mut key = key.clone();
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        KeySet::from_jwks(json!({ "keys": [key] }).to_string().as_bytes(), &rules).err()
    };
    assert_eq!(with(json!({})), None);
    assert_eq!(with(json!({"use": "sig", "key_ops": ["verify"], "alg": "ES256"})), None);
    let none = Some("has no key that can be used here");
    for changes in [
        json!({"use": "enc"}),
        json!({"key_ops": ["sign"]}),
        json!({"alg": "ES384"}),
        json!({"alg": "HS256"}),
        json!({"crv": "P-521"}),
        json!({"crv": "secp256k1"}),
        json!({"x": "AAAA"}),
        json!({"x": "!"}),
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        json!({"kty": "EC", "kid": 7}),
    ] {
        assert_eq!(with(changes.clone()), none, "{changes}");
    }
    for (text, fault) in [
        ("", "is not JSON"),
        ("[]", "has no keys"),
        ("{}", "has no keys"),
        (r#"{"keys":{}}"#, "has no keys"),
        (r#"{"keys":[]}"#, "has no key that can be used here"),
        (r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"},7,null]}"#, "has no key that can be used here"),
    ] {
        assert_eq!(KeySet::from_jwks(text.as_bytes(), &rules).err(), Some(fault), "{text}");
    }
    let many = json!({ "keys": vec![key; 65] }).to_string();
    assert_eq!(KeySet::from_jwks(many.as_bytes(), &rules).err(), Some("has too many keys"));
}

#[test]
fn a_token_names_its_key_unless_there_is_only_one() {
    let rules = Rules::new(&settings(|_| ()));
    let point = "A".repeat(43);
    let key = |kid: Value| json!({"kty": "EC", "crv": "P-256", "x": point, "y": point, "kid": kid});
    let set = |keys: Value| KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), &rules).unwrap();
    let n = |set: &KeySet, kid| set.candidates(kid).len();
    let one = set(json!([key(json!("a"))]));
    assert_eq!((n(&one, None), n(&one, Some("a")), n(&one, Some("b"))), (1, 1, 0));
    let two = set(json!([key(json!("a")), key(json!("b"))]));
    assert_eq!((n(&two, None), n(&two, Some("a")), n(&two, Some("b"))), (0, 1, 1));
    let same = set(json!([key(json!("a")), key(json!("a")), key(json!(null))]));
    assert_eq!((n(&same, None), n(&same, Some("a")), n(&same, Some(""))), (1, 2, 0));
}

proptest! {
    #[test]
    fn no_text_is_a_token_by_chance(text: String) {
        prop_assert!(verify(&settings(|_| ()), &text).is_err());
    }

    #[test]
    fn a_token_that_was_changed_is_refused(place: prop::sample::Index, byte in "[A-Za-z0-9_-]") {
        let token = signed(&claims(), |_| ());
        // The last character has bits that are not read.
        let place = place.index(token.len() - 1);
        let changed = format!("{}{byte}{}", &token[..place], &token[place + 1..]);
        prop_assert!(changed == token || verify(&settings(|_| ()), &changed).is_err(), "{changed}");
    }
}
