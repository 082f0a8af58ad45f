//! An issuer of tokens, and what can go wrong with it.
//!
//! ```ignore
//! let key = SigningKey::es256("first");
//! let issuer = Issuer::start(&[&key]).await;
//! let node = Node::start_with(|settings| issuer.configure(settings)).await;
//! let token = key.sign(json!({"sub": "ada"}));
//! issuer.set_mood(Mood::Silent);
//! ```

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use rollcall::settings::{AuthMode, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The secret of the tests. A run of `scripts/test --secrets` finds it by the marker at its end.
pub(crate) const SECRET: &str = "the secret of the tests s3cr3t-7f1c90aa";

/// Turns tokens on that are signed with [`SECRET`]. They end when they say.
pub(crate) fn with_secret(settings: &mut Settings) {
    settings.auth.mode = AuthMode::Jwt;
    settings.auth.secret = Some(SECRET.parse().expect("a text"));
    settings.auth.leeway = Duration::ZERO;
}

/// A token that is signed with [`SECRET`] and says this. Without `exp` it holds for an hour.
pub(crate) fn token(claims: Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::HS256), &lasting(claims), &key).expect("it can be signed")
}

/// A token of this user with these scopes.
pub(crate) fn token_of(user: &str, scopes: &str) -> String {
    token(json!({"sub": user, "scope": scopes}))
}

/// The time in so many seconds, as claims have it.
pub(crate) fn seconds_from_now(seconds: f64) -> Value {
    json!(rollcall::clock::now().0 as f64 / 1000.0 + seconds)
}

fn lasting(mut claims: Value) -> Value {
    if claims.get("exp").is_none() {
        claims["exp"] = seconds_from_now(3600.0);
    }
    claims
}

/// A key pair of an issuer.
pub(crate) struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
    /// The public key as PEM.
    pub(crate) public_pem: String,
}

impl SigningKey {
    /// A pair on P-256.
    pub(crate) fn es256(kid: &str) -> Self {
        Self::new(kid, Algorithm::ES256)
    }

    /// A pair for this algorithm.
    pub(crate) fn new(kid: &str, algorithm: Algorithm) -> Self {
        let pair = KeyPair::generate_for(match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        });
        let pair = pair.expect("a key pair");
        let pem = pair.serialize_pem();
        let private = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        let private = private.expect("a private key");
        Self { kid: kid.to_owned(), algorithm, private, public_pem: pair.public_key_pem() }
    }

    /// A token that says this. Without `exp` it holds for an hour.
    pub(crate) fn sign(&self, claims: Value) -> String {
        self.sign_with(claims, |_| ())
    }

    /// The same with another head.
    pub(crate) fn sign_with(&self, claims: Value, change: impl FnOnce(&mut Header)) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.clone());
        change(&mut header);
        encode(&header, &lasting(claims), &self.private).expect("it can be signed")
    }

    /// The public key as the issuer shows it.
    pub(crate) fn jwk(&self) -> Value {
        let pem = self.public_pem.as_bytes();
        let public = match self.algorithm {
            Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
            _ => DecodingKey::from_rsa_pem(pem),
        };
        let jwk = Jwk::from_decoding_key(&public.expect("a public key"), Some(self.algorithm)).expect("a JWK");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        (jwk["kid"], jwk["use"]) = (json!(self.kid), json!("sig"));
        jwk
    }
}

/// What the issuer does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Mood {
    /// It answers.
    Good,
    /// It answers with this status, and these header lines.
    Refuses(u16, String),
    /// It never answers.
    Silent,
    /// It sends a byte now and then.
    Drips,
    /// Its answer has no end.
    Endless,
    /// It answers this.
    Says(String),
}

/// An issuer that shows its keys over HTTP on this machine.
pub(crate) struct Issuer {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

struct State {
    keys: Vec<Value>,
    mood: Mood,
    n_requests: usize,
}

impl Issuer {
    /// An issuer with these keys.
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let state = State { keys: keys.iter().map(|key| key.jwk()).collect(), mood: Mood::Good, n_requests: 0 };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let server = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { addr, state, server }
    }

    /// Lets a node take its keys from here. Times are short.
    pub(crate) fn configure(&self, settings: &mut Settings) {
        settings.auth.mode = AuthMode::Jwt;
        settings.auth.jwks_url = Some(self.url());
        settings.auth.jwks_timeout = Duration::from_millis(500);
        settings.auth.jwks_min_interval = Duration::from_millis(600);
        settings.auth.leeway = Duration::ZERO;
    }

    /// Where its keys are.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys", self.addr)
    }

    /// How often it was asked.
    pub(crate) fn n_requests(&self) -> usize {
        self.state().n_requests
    }

    /// From now on it behaves like this.
    pub(crate) fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// From now on it has these keys.
    pub(crate) fn rotate(&self, keys: &[&SigningKey]) {
        self.state().keys = keys.iter().map(|key| key.jwk()).collect();
    }

    /// From now on nobody answers at its address.
    pub(crate) fn die(&self) {
        self.server.abort();
        self.set_mood(Mood::Silent);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers one request, and ends the connection. A client that goes ends it, too.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let (mood, keys) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.n_requests += 1;
        (state.mood.clone(), state.keys.clone())
    };
    let ok =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let mut gone = [0];
    match mood {
        Mood::Good => _ = stream.write_all(ok(&json!({ "keys": keys }).to_string()).as_bytes()).await,
        Mood::Says(body) => _ = stream.write_all(ok(&body).as_bytes()).await,
        Mood::Refuses(status, lines) => {
            let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n{lines}\r\n");
            _ = stream.write_all(answer.as_bytes()).await;
        }
        Mood::Silent => _ = stream.read(&mut gone).await,
        Mood::Drips => {
            let answer = ok(&json!({ "keys": keys }).to_string());
            for byte in answer.bytes() {
                if stream.write_u8(byte).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Mood::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
        }
    }
}
