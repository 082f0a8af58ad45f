//! The arrows between the modules, and who may know what.
//!
//! One crate gives the compiler no say in which module uses which, so this test has it. The tables below are the
//! documentation: a new arrow is a decision, recorded in `docs/adr/`, and then a change here.
//!
//! A module uses what it names. It also uses what it reaches: `services.replica.view()` uses `replica`. To see that, the
//! checker follows the types of values through parameters, fields, methods, functions, patterns and closures. A module that
//! only hands a value on does not use it.
//!
//! The checker believes too much where one type wraps another: it takes `Arc<Table>`, `Option<Table>` and `(Table, u64)` for
//! a `Table`. So it takes a method of the wrapper for ours, if ours has the same name.
//!
//! The checker cannot see:
//! - what a function of another crate returns, unless it is one of the arguments;
//! - what a type parameter stands for, besides its bounds, and what an associated type is;
//! - a trait at work that nobody calls by name: a comparison, an operator, `Drop`, `{}` in a text;
//! - the type of a variable that gets its value after its `let`;
//! - types inside `macro_rules!` and `thread_local!`, and code that a macro makes.

mod names;
mod reach;
mod self_test;
mod source;
mod types;
mod uses;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::sync::LazyLock;

use self::names::Names;
use self::types::Declarations;
use self::uses::{How, Use};

/// Each module, and the modules of ours that it may use. What is not in its row, it must not know.
///
/// Read from the top: every row uses only rows above it, so the arrows cannot form a circle.
const ARROWS: &[(&str, &[&str])] = &[
    // Pure: what a presence service is about, without a clock, a socket or a Redis.
    ("domain", &[]),
    // The configuration says what it wants in its own types.
    ("settings", &[]),
    ("telemetry", &["settings"]),
    ("metrics", &["domain"]),
    ("clock", &["domain"]),
    // Delays between tries.
    ("backoff", &[]),
    // What runs on the main thread.
    ("tasks", &[]),
    // The bytes of one connection, and the certificate of the listener.
    ("transport", &["domain", "settings", "metrics", "backoff"]),
    // The truth.
    ("store", &["domain", "clock", "settings"]),
    // This node's share of it.
    ("node", &["store", "domain", "settings", "clock", "metrics", "backoff"]),
    ("sweeper", &["store", "domain", "settings", "metrics", "backoff"]),
    ("replica", &["node", "store", "domain", "clock", "metrics", "backoff"]),
    // What is said, and to whom.
    ("wire", &["domain", "clock"]),
    // Who a client is, and what it may do.
    ("auth", &["wire", "domain", "settings", "clock", "metrics", "backoff"]),
    ("hub", &["wire", "replica", "domain", "settings", "metrics"]),
    // Who types.
    ("typing", &["store", "node", "replica", "wire", "hub", "domain", "metrics", "backoff"]),
    // What nodes ask one another.
    ("peers", &["typing", "store", "node", "replica", "hub", "domain", "clock", "metrics", "backoff"]),
    // What is asked about rooms.
    ("rooms", &["store", "replica", "domain", "settings", "clock", "metrics"]),
    // The edges.
    (
        "session",
        &[
            "typing",
            "rooms",
            "node",
            "hub",
            "replica",
            "auth",
            "wire",
            "transport",
            "domain",
            "settings",
            "clock",
            "metrics",
        ],
    ),
    (
        "http",
        &[
            "session",
            "peers",
            "rooms",
            "replica",
            "auth",
            "wire",
            "transport",
            "domain",
            "settings",
            "clock",
            "metrics",
        ],
    ),
    // What a node needs of its surroundings.
    ("doctor", &["store", "domain", "settings", "clock", "transport"]),
    // How busy a worker thread is.
    ("worker_delay", &["metrics"]),
    ("shutdown", &["node"]),
    // The commands that ask a running node. They are clients: what they share with the service, they could not notice.
    ("cli", &[]),
];

/// The modules that wire the others together or open them to the fuzz targets, and may use all of them. Nobody but `main`
/// names `app`.
const WIRING: &[&str] = &["app", "fuzzing", "lib", "main"];

/// Names, and the only places that may say them. A place is a file or a folder under `src/`.
const SECRETS: &[Secret] = &[
    // The rest of the service sees the trait `store::PresenceStore`; the app chooses the implementation.
    // The doctor looks at Redis itself.
    Secret { what: What::Path("crate::store::redis"), allowed: &["store/", "app.rs", "doctor.rs", "fuzzing/"] },
    Secret { what: What::Crate("redis"), allowed: &["store/redis/"] },
    Secret { what: What::Crate("deadpool"), allowed: &["store/redis/"] },
    // JSON is how we speak to clients and to Redis; in between there are types.
    // A claim of a token is JSON, too.
    Secret { what: What::Crate("serde_json"), allowed: &["wire/", "domain/", "auth/", "store/redis/", "cli/"] },
    // Only one place checks tokens and fetches keys.
    Secret { what: What::Crate("jsonwebtoken"), allowed: &["auth/"] },
    Secret { what: What::Crate("ureq"), allowed: &["auth/"] },
    // Sessions and HTTP see a stream of bytes.
    Secret { what: What::Crate("rustls"), allowed: &["transport/", "auth/", "cli/", "app.rs"] },
    Secret { what: What::Crate("tokio_rustls"), allowed: &["transport/", "cli/"] },
    // The commands are clients.
    Secret { what: What::Crate("tokio_tungstenite"), allowed: &["cli/"] },
    Secret { what: What::Crate("crossterm"), allowed: &["cli/top/"] },
    // A secret is taken out of its wrapping where a library needs it, and nowhere else.
    Secret {
        what: What::Word("expose_secret"),
        allowed: &[
            // As the app opens the store, it does.
            "doctor.rs",
            "auth/",
            "settings/auth.rs",
            "settings/redis_url.rs",
            "settings/secret.rs",
            "store/redis/client.rs",
            "wire/message.rs",
            "app.rs",
        ],
    },
    // The documented names of the keys are spelled once, because Redis Cluster will need other ones.
    Secret { what: What::Key, allowed: &["store/redis/keys.rs"] },
];

/// Crates that `domain` must not name, by their first word: its functions take what they need as arguments.
const IMPURE: &[&str] = &["actix", "deadpool", "redis", "tokio"];

/// Parts of a key name, wherever they stand in a text. Source: docs/redis.md
const KEY_PARTS: &[&str] = &[
    ":user:socket",
    ":socket:user",
    ":presence:",
    ":users:set",
    ":node:sockets",
    ":node:generation",
    ":sweep:after",
    ":last-seen",
    ":room:",
];

/// Parts of a key name that are words, and so count only at the end of a text.
const KEY_ENDS: &[&str] = &[":nodes", ":revision", ":epoch", ":log", ":events"];

#[test]
fn every_module_uses_only_those_that_its_row_allows() {
    assert_none(Crate::ours().forbidden_arrows());
}

#[test]
fn no_arrow_points_back() {
    for (position, (module, targets)) in ARROWS.iter().enumerate() {
        for target in *targets {
            let above = ARROWS[..position].iter().any(|(earlier, _)| earlier == target);
            assert!(above, "`{module}` may use `{target}`, whose row is not above its own");
        }
    }
}

#[test]
fn every_arrow_is_used() {
    assert_none(Crate::ours().idle_arrows());
}

#[test]
fn the_domain_is_pure() {
    assert_none(Crate::ours().impurities());
}

#[test]
fn what_one_place_knows_no_other_place_uses() {
    assert_none(Crate::ours().told_secrets());
}

#[test]
fn every_place_that_the_tables_name_is_there() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_there = |place: &str| {
        let path = source.join(place);
        if place.ends_with('/') { path.is_dir() } else { path.is_file() }
    };
    for place in SECRETS.iter().flat_map(|secret| secret.allowed) {
        assert!(is_there(place), "SECRETS allows src/{place}, which is not there");
    }
    for module in ARROWS.iter().map(|(module, _)| module).chain(WIRING) {
        let is_there = is_there(&format!("{module}.rs")) || is_there(&format!("{module}/"));
        assert!(is_there, "the module `{module}` has a row, and is not there");
    }
}

/// Names that only some places may say.
struct Secret {
    what: What,
    allowed: &'static [&'static str],
}

enum What {
    /// A path of ours and everything below it.
    Path(&'static str),
    /// A crate.
    Crate(&'static str),
    /// A word in the code, one of [`uses::WORDS`].
    Word(&'static str),
    /// A name of a Redis key.
    Key,
}

/// What every file of a crate uses and says.
struct Crate(Vec<File>);

struct File {
    /// Its path under `src/`, with `/`.
    name: String,
    uses: Vec<Use>,
    texts: Vec<(usize, String)>,
    words: Vec<(usize, &'static str)>,
}

impl Crate {
    /// What is under `src/`.
    fn ours() -> &'static Self {
        static OURS: LazyLock<Crate> = LazyLock::new(|| {
            let texts = source::read();
            Crate::parse(texts.iter().map(|(file, text)| (file.as_str(), text.as_str())))
        });
        &OURS
    }

    fn parse<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let sources = source::parse(texts);
        let names = Names::read(&sources);
        let mut uses: Vec<Vec<Use>> = sources.iter().map(|source| uses::named(source, &names)).collect();
        let declarations = Declarations::read(&sources, &names);
        for body in &declarations.bodies {
            let file = sources.iter().position(|source| source.file == body.file).expect("a body is in a file");
            uses[file].extend(reach::reached(body, &declarations, &names));
        }
        let files = sources.into_iter().zip(uses).map(|(source, uses)| {
            let (texts, words) = (uses::texts(&source), uses::words(&source));
            File { name: source.file, uses, texts, words }
        });
        Self(files.collect())
    }

    fn forbidden_arrows(&self) -> Vec<String> {
        self.0.iter().flat_map(File::forbidden_arrows).collect()
    }

    fn impurities(&self) -> Vec<String> {
        self.0.iter().flat_map(File::impurities).collect()
    }

    fn told_secrets(&self) -> Vec<String> {
        self.0.iter().flat_map(File::told_secrets).collect()
    }

    /// The arrows that ARROWS has and the code has not.
    fn idle_arrows(&self) -> Vec<String> {
        let used = self.0.iter().flat_map(|file| file.uses.iter().map(|item| (file.module(), item.module())));
        let used: BTreeSet<_> = used.filter_map(|(module, target)| Some((module, target?))).collect();
        let arrows = ARROWS.iter().flat_map(|(module, targets)| targets.iter().map(|target| (*module, *target)));
        let idle = arrows.filter(|arrow| !used.contains(arrow));
        idle.map(|(module, target)| format!("`{module}` may use `{target}`, and does not")).collect()
    }
}

impl File {
    /// The module under the crate that the file belongs to: `store` for `store/redis/keys.rs`.
    fn module(&self) -> &str {
        self.name.split(['/', '.']).next().expect("a split has a first part")
    }

    fn forbidden_arrows(&self) -> Vec<String> {
        let module = self.module();
        if WIRING.contains(&module) {
            return Vec::new();
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == module) else {
            return vec![format!("src/{}: the module `{module}` has no row in ARROWS", self.name)];
        };
        let forbidden = self.uses.iter().filter_map(|item| {
            let target = item.module()?;
            let is_fine = target == module || allowed.contains(&target);
            (!is_fine).then(|| self.at(item.line, item.must_not(module, &format!("crate::{target}"))))
        });
        once_each(forbidden)
    }

    fn impurities(&self) -> Vec<String> {
        if self.module() != "domain" {
            return Vec::new();
        }
        let impure = self.uses.iter().filter_map(|item| {
            let root = item.path.split("::").next()?;
            let is_impure = IMPURE.contains(&root.split('_').next()?);
            is_impure.then(|| self.at(item.line, item.must_not("domain", root)))
        });
        once_each(impure)
    }

    fn told_secrets(&self) -> Vec<String> {
        let elsewhere = |secret: &&Secret| !secret.allowed.iter().any(|place| self.is_in(place));
        SECRETS.iter().filter(elsewhere).flat_map(|secret| self.tells(&secret.what)).collect()
    }

    /// Whether the file is `place`, or lies in the folder `place/`.
    fn is_in(&self, place: &str) -> bool {
        let file = &self.name;
        if place.ends_with('/') { file.starts_with(place) } else { file == place }
    }

    /// Where the file uses one of these names.
    fn tells(&self, what: &What) -> Vec<String> {
        match what {
            What::Path(prefix) | What::Crate(prefix) => {
                let below = self.uses.iter().filter(|item| item.is_below(prefix));
                once_each(below.map(|item| self.at(item.line, format!("`{prefix}` is not for this place"))))
            }
            What::Word(word) => {
                let said = self.words.iter().filter(|(_, known)| known == word);
                once_each(said.map(|(line, word)| self.at(*line, format!("`{word}` is not for this place"))))
            }
            What::Key => {
                let keys = self.texts.iter().filter(|(_, text)| is_key_name(text));
                once_each(keys.map(|(line, text)| self.at(*line, format!("{text:?} is a name of a Redis key"))))
            }
        }
    }

    fn at(&self, line: usize, what: impl Display) -> String {
        format!("src/{}:{line}: {what}", self.name)
    }
}

impl Use {
    /// The module of ours that is used.
    fn module(&self) -> Option<&str> {
        self.path.strip_prefix("crate::")?.split("::").next()
    }

    fn is_below(&self, prefix: &str) -> bool {
        self.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }

    fn must_not(&self, module: &str, target: &str) -> String {
        match self.how {
            How::Named => format!("`{module}` must not name `{target}`"),
            How::Reached => format!("`{module}` must not reach `{target}`, here `{}`", self.path),
        }
    }
}

/// A line that breaks a rule twice (`use crate::hub::{self, Hub}`) is one thing to mend.
fn once_each(violations: impl Iterator<Item = String>) -> Vec<String> {
    let mut violations: Vec<String> = violations.collect();
    violations.dedup();
    violations
}

fn is_key_name(text: &str) -> bool {
    KEY_PARTS.iter().any(|part| text.contains(part)) || KEY_ENDS.iter().any(|end| text.ends_with(end))
}

/// Fails with all of these, one a line.
fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}
