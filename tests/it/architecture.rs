//! The arrows between the modules, and who may know what.
//!
//! One crate gives the compiler no say in which module uses which, so this test has it. The tables below are the
//! documentation: a new arrow is a decision, recorded in `docs/adr/`, and then a change here.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Each module, and the modules of ours that it may name. What is not in its row, it must not know.
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
    // The truth.
    ("store", &["domain", "clock", "settings"]),
    // This node's share of it.
    ("node", &["store", "domain", "settings", "clock", "metrics", "backoff"]),
    ("sweeper", &["store", "domain", "settings", "metrics"]),
    ("replica", &["node", "store", "domain", "clock", "metrics", "backoff"]),
    // What is said, and to whom.
    ("wire", &["domain", "clock"]),
    ("hub", &["wire", "replica", "domain", "settings", "metrics"]),
    // The edges.
    ("session", &["node", "hub", "replica", "wire", "domain", "settings", "clock", "metrics"]),
    ("http", &["session", "wire", "domain", "settings", "clock", "metrics"]),
    ("shutdown", &["session", "node"]),
];

/// The modules that wire the others together, and may name all of them. Nobody but `main` names `app`.
const WIRING: &[&str] = &["app", "lib", "main"];

/// Names, and the only places that may say them. A place is a file or a folder under `src/`.
const SECRETS: &[Secret] = &[
    // The rest of the service sees the trait `store::PresenceStore`; the app chooses the implementation.
    Secret { names: Names::Path("crate::store::redis"), allowed: &["store/", "app.rs"] },
    Secret { names: Names::Crate("redis"), allowed: &["store/redis/", "store/mod.rs"] },
    Secret { names: Names::Crate("deadpool_redis"), allowed: &["store/redis/"] },
    // JSON is how we speak to clients and to Redis; in between there are types.
    Secret { names: Names::Crate("serde_json"), allowed: &["wire/", "wire.rs", "domain/", "store/redis/"] },
    // The documented names of the keys are spelled once, because Redis Cluster will need other ones.
    Secret { names: Names::Key, allowed: &["store/redis/keys.rs"] },
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
fn every_module_names_only_those_that_its_row_allows() {
    assert_none(sources().iter().flat_map(Source::forbidden_arrows));
}

#[test]
fn no_arrow_points_back() {
    for (position, (module, targets)) in ARROWS.iter().enumerate() {
        for target in *targets {
            let above = ARROWS[..position].iter().any(|(earlier, _)| earlier == target);
            assert!(above, "`{module}` may name `{target}`, whose row is not above its own");
        }
    }
}

#[test]
fn the_domain_is_pure() {
    assert_none(sources().iter().flat_map(Source::impurities));
}

#[test]
fn what_one_place_knows_no_other_place_names() {
    assert_none(sources().iter().flat_map(Source::told_secrets));
}

/// Names that only some places may say.
struct Secret {
    names: Names,
    allowed: &'static [&'static str],
}

enum Names {
    /// A path of ours and everything below it.
    Path(&'static str),
    /// A crate.
    Crate(&'static str),
    /// A name of a Redis key.
    Key,
}

/// One file under `src/`, without comments and without what is compiled for tests only.
struct Source {
    /// Its path under `src/`, with `/`.
    file: String,
    /// Every path that the code names, from its root: `crate::…` or another crate.
    paths: Vec<NamedPath>,
    /// Every text in the code.
    texts: Vec<(usize, String)>,
}

/// A path as the code names it, with `super` and `self` resolved.
struct NamedPath {
    line: usize,
    segments: Vec<String>,
}

impl Source {
    fn parse(file: &str, text: &str) -> Source {
        let tokens = without_tests(tokens(text));
        let paths = Paths {
            tokens: &tokens,
            position: 0,
            module: module_path(file),
            inner: Vec::new(),
            depth: 0,
            found: Vec::new(),
        }
        .collect();
        let texts = tokens.iter().filter_map(|token| match &token.kind {
            Kind::Text(text) => Some((token.line, text.clone())),
            Kind::Word(_) | Kind::Sign(_) => None,
        });
        Source { file: file.to_owned(), paths, texts: texts.collect() }
    }

    /// The module under the crate that the file belongs to: `store` for `store/redis/keys.rs`.
    fn module(&self) -> &str {
        self.file.split(['/', '.']).next().expect("a split has a first part")
    }

    fn forbidden_arrows(&self) -> Vec<String> {
        let module = self.module();
        if WIRING.contains(&module) {
            return Vec::new();
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == module) else {
            return vec![format!("src/{}: the module `{module}` has no row in ARROWS", self.file)];
        };
        let ours = self.paths.iter().filter(|path| path.segments[0] == "crate");
        let forbidden = ours.filter_map(|path| {
            let target = path.segments.get(1)?;
            let fine = target == module || allowed.contains(&target.as_str());
            (!fine).then(|| self.at(path.line, format!("`{module}` must not name `crate::{target}`")))
        });
        once_each(forbidden)
    }

    fn impurities(&self) -> Vec<String> {
        if self.module() != "domain" {
            return Vec::new();
        }
        let impure = |root: &str| IMPURE.contains(&root.split('_').next().expect("a split has a first part"));
        let paths = self.paths.iter().filter(|path| impure(&path.segments[0]));
        once_each(paths.map(|path| self.at(path.line, format!("the domain must not name `{}`", path.segments[0]))))
    }

    fn told_secrets(&self) -> Vec<String> {
        let elsewhere = |secret: &&Secret| !secret.allowed.iter().any(|place| self.is_in(place));
        SECRETS.iter().filter(elsewhere).flat_map(|secret| self.tells(&secret.names)).collect()
    }

    /// Whether the file is `place`, or lies in the folder `place/`.
    fn is_in(&self, place: &str) -> bool {
        if place.ends_with('/') { self.file.starts_with(place) } else { self.file == place }
    }

    /// Where the file says one of these names.
    fn tells(&self, names: &Names) -> Vec<String> {
        let path = |prefix: &str| {
            let prefix: Vec<&str> = prefix.split("::").collect();
            let below = self.paths.iter().filter(|path| path.segments.iter().take(prefix.len()).eq(prefix.iter()));
            once_each(below.map(|path| self.at(path.line, format!("`{}` is not for this place", prefix.join("::")))))
        };
        match names {
            Names::Path(prefix) => path(prefix),
            Names::Crate(name) => path(name),
            Names::Key => {
                let keys = self.texts.iter().filter(|(_, text)| is_key_name(text));
                once_each(keys.map(|(line, text)| self.at(*line, format!("{text:?} is a name of a Redis key"))))
            }
        }
    }

    fn at(&self, line: usize, what: impl Display) -> String {
        format!("src/{}:{line}: {what}", self.file)
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

/// All files under `src/`, except those that hold only tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_files(&root, &mut files);
    let texts: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let name = file.strip_prefix(&root).expect("it lies under src").to_string_lossy().replace('\\', "/");
            (name, std::fs::read_to_string(file).expect("a source file can be read"))
        })
        .collect();
    let tests: BTreeSet<String> = texts.iter().flat_map(|(file, text)| test_files(file, &tokens(text))).collect();
    texts.iter().filter(|(file, _)| !tests.contains(file)).map(|(file, text)| Source::parse(file, text)).collect()
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder of src can be read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect_files(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

/// Fails with all of these, one a line.
fn assert_none(violations: impl IntoIterator<Item = String>) {
    let violations: Vec<String> = violations.into_iter().collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

/// The module that a file is, from the crate: `["store", "redis"]` for `store/redis/mod.rs`.
fn module_path(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        path.pop();
    }
    path
}

// A reader of just enough Rust: words, texts and signs, so that no comment and no text is taken for code.

struct Token {
    line: usize,
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    Word(String),
    Text(String),
    Sign(char),
}

impl Token {
    fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Text(_) | Kind::Sign(_) => None,
        }
    }
}

/// The tokens of a file; comments are left out. `::` is the one sign of two characters, and is written `:` `:` here.
fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut position, mut line) = (0, 1);
    while position < characters.len() {
        let rest = &characters[position..];
        let is_word = |character: &char| character.is_alphanumeric() || *character == '_';
        let (length, kind) = if rest.starts_with(&['/', '/']) {
            (rest.iter().take_while(|character| **character != '\n').count(), None)
        } else if rest.starts_with(&['/', '*']) {
            (block_comment_length(rest), None)
        } else if let Some((length, text)) = raw_text(rest) {
            (length, Some(Kind::Text(text)))
        } else if rest[0] == '"' {
            let length = quoted_length(rest, '"');
            (length, Some(Kind::Text(rest[1..length - 1].iter().collect())))
        } else if rest[0] == '\'' {
            // A character, or the mark of a lifetime: only the former has a second quote after one character.
            let is_character = rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'');
            (if is_character { quoted_length(rest, '\'') } else { 1 }, None)
        } else if is_word(&rest[0]) {
            let length = rest.iter().take_while(|character| is_word(character)).count();
            (length, Some(Kind::Word(rest[..length].iter().collect())))
        } else {
            (1, (!rest[0].is_whitespace()).then_some(Kind::Sign(rest[0])))
        };
        tokens.extend(kind.map(|kind| Token { line, kind }));
        line += rest[..length].iter().filter(|character| **character == '\n').count();
        position += length;
    }
    tokens
}

/// The length of `"…"` or `'…'` with both quotes.
fn quoted_length(rest: &[char], quote: char) -> usize {
    let mut length = 1;
    while length < rest.len() && rest[length] != quote {
        length += if rest[length] == '\\' { 2 } else { 1 };
    }
    (length + 1).min(rest.len())
}

/// The length and content of `r"…"`, `r#"…"#`, `br"…"` and so on, if one begins here.
fn raw_text(rest: &[char]) -> Option<(usize, String)> {
    let prefix = rest.iter().take_while(|character| ['b', 'c'].contains(character)).count();
    if prefix > 1 || rest.get(prefix) != Some(&'r') {
        return None;
    }
    let hashes = rest[prefix + 1..].iter().take_while(|character| **character == '#').count();
    let begin = prefix + 1 + hashes + 1;
    if rest.get(begin - 1) != Some(&'"') {
        return None;
    }
    let mut end = vec!['"'];
    end.resize(1 + hashes, '#');
    let length = rest[begin..].windows(end.len()).position(|part| part == end)?;
    Some((begin + length + end.len(), rest[begin..begin + length].iter().collect()))
}

/// The length of a block comment, which may hold others.
fn block_comment_length(rest: &[char]) -> usize {
    let (mut depth, mut length) = (0, 0);
    while length < rest.len() {
        if rest[length..].starts_with(&['/', '*']) {
            (depth, length) = (depth + 1, length + 2);
        } else if rest[length..].starts_with(&['*', '/']) {
            (depth, length) = (depth - 1, length + 2);
            if depth == 0 {
                return length;
            }
        } else {
            length += 1;
        }
    }
    length
}

/// The tokens without the items under `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let items = test_items(&tokens);
    let mut position = 0;
    let mut kept = tokens;
    kept.retain(|_| {
        let is_kept = !items.iter().any(|item| item.contains(&position));
        position += 1;
        is_kept
    });
    kept
}

/// Where the items under `#[cfg(test)]` lie, with the attribute.
fn test_items(tokens: &[Token]) -> Vec<std::ops::Range<usize>> {
    let mut items = Vec::new();
    let mut position = 0;
    while position < tokens.len() {
        if is_test_attribute(&tokens[position..]) {
            let end = item_end(tokens, position);
            items.push(position..end);
            position = end;
        } else {
            position += 1;
        }
    }
    items
}

/// Whether `#[cfg(test)]` or `#[cfg(all(test, …))]` begins here.
fn is_test_attribute(rest: &[Token]) -> bool {
    let begins = rest.len() > 3 && rest[0].is('#') && rest[1].is('[') && rest[2].word() == Some("cfg");
    let words = || rest.iter().take_while(|token| !token.is(']')).filter_map(Token::word);
    begins && words().any(|word| word == "test") && !words().any(|word| ["not", "any"].contains(&word))
}

/// The end of the item at a position, attributes included: its `;`, or the end of its braces.
fn item_end(tokens: &[Token], begin: usize) -> usize {
    let mut depth = 0;
    for (offset, token) in tokens[begin..].iter().enumerate() {
        match token.kind {
            Kind::Sign('{' | '(' | '[') => depth += 1,
            Kind::Sign(closing @ ('}' | ')' | ']')) => {
                depth -= 1;
                if depth == 0 && closing == '}' {
                    return begin + offset + 1;
                }
            }
            Kind::Sign(';') if depth == 0 => return begin + offset + 1,
            Kind::Sign(_) | Kind::Word(_) | Kind::Text(_) => {}
        }
    }
    tokens.len()
}

/// The files that a file declares by `#[cfg(test)] mod name;`.
fn test_files(file: &str, tokens: &[Token]) -> Vec<String> {
    let folder = module_path(file).join("/");
    let declared = test_items(tokens).into_iter().filter_map(|item| {
        let item = &tokens[item];
        let name = item.windows(2).rev().find(|pair| pair[0].word() == Some("mod"))?[1].word()?;
        item.last()?.is(';').then(|| name.to_owned())
    });
    declared
        .flat_map(|name| {
            let base =
                [folder.as_str(), &name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
            [format!("{base}.rs"), format!("{base}/mod.rs")]
        })
        .collect()
}

/// Collects the paths of a file. Every path counts, whether in a `use` or in the code.
struct Paths<'a> {
    tokens: &'a [Token],
    position: usize,
    /// Where the code at the position is: the file's module, and the modules inside the file.
    module: Vec<String>,
    /// The depths of the braces that those modules end with.
    inner: Vec<usize>,
    depth: usize,
    found: Vec<NamedPath>,
}

impl Paths<'_> {
    fn collect(mut self) -> Vec<NamedPath> {
        while self.position < self.tokens.len() {
            let after_use = self.position > 0 && self.tokens[self.position - 1].word() == Some("use");
            // `::name` is a path from the crates.
            if self.at_path_sign(self.position) {
                self.position += 2;
            }
            let Some(word) = self.tokens.get(self.position).and_then(Token::word) else {
                if after_use {
                    self.tree(&[]);
                } else {
                    self.brace();
                    self.position += 1;
                }
                continue;
            };
            if self.at_path_sign(self.position + 1) || after_use {
                let line = self.tokens[self.position].line;
                self.position += 1;
                match self.root(word) {
                    Some(root) if self.at_path_sign(self.position) => {
                        self.position += 2;
                        self.tree(&root);
                    }
                    Some(segments) => self.found.push(NamedPath { line, segments }),
                    // A path from here (`self::`): it leads nowhere else.
                    None => {}
                }
            } else {
                self.position += 1;
            }
        }
        self.found
    }

    /// Follows the braces, to know which module the code is in.
    fn brace(&mut self) {
        match self.tokens.get(self.position).map(|token| &token.kind) {
            Some(Kind::Sign('{')) => {
                let before = |back: usize| self.tokens.get(self.position.checked_sub(back)?)?.word();
                if let (Some("mod"), Some(name)) = (before(2), before(1)) {
                    self.module.push(name.to_owned());
                    self.inner.push(self.depth);
                }
                self.depth += 1;
            }
            Some(Kind::Sign('}')) => {
                self.depth = self.depth.saturating_sub(1);
                if self.inner.last() == Some(&self.depth) {
                    self.inner.pop();
                    self.module.pop();
                }
            }
            _ => {}
        }
    }

    /// What the first word of a path stands for.
    fn root(&mut self, word: &str) -> Option<Vec<String>> {
        match word {
            "self" | "Self" => None,
            "super" => {
                let mut module = self.module.clone();
                module.pop();
                while self.at_path_sign(self.position)
                    && self.tokens.get(self.position + 2).and_then(Token::word) == Some("super")
                {
                    module.pop();
                    self.position += 3;
                }
                module.insert(0, "crate".to_owned());
                Some(module)
            }
            other => Some(vec![other.to_owned()]),
        }
    }

    /// Reads what may follow `prefix::`: a word, `{…, …}` or `*`.
    fn tree(&mut self, prefix: &[String]) {
        let Some(token) = self.tokens.get(self.position) else { return };
        let line = token.line;
        if token.is('{') {
            self.position += 1;
            while self.tokens.get(self.position).is_some_and(|token| !token.is('}')) {
                if self.tokens[self.position].is(',') {
                    self.position += 1;
                } else {
                    self.tree(prefix);
                }
            }
            self.position += 1;
            return;
        }
        let mut segments = prefix.to_vec();
        self.position += 1;
        if let Some(word) = token.word() {
            if prefix.is_empty() {
                segments = self.root(word).unwrap_or_default();
            } else {
                segments.push(word.to_owned());
            }
            if self.at_path_sign(self.position) {
                self.position += 2;
                return self.tree(&segments);
            }
            // `… as name`: the name says nothing about where it comes from.
            if self.tokens.get(self.position).and_then(Token::word) == Some("as") {
                self.position += 2;
            }
        }
        if !segments.is_empty() {
            self.found.push(NamedPath { line, segments });
        }
    }

    fn at_path_sign(&self, position: usize) -> bool {
        self.tokens.get(position..position + 2).is_some_and(|pair| pair.iter().all(|token| token.is(':')))
    }
}

// The checker is checked: one that sees nothing finds nothing.

/// Everything that is wrong with a file of this name and text, one a line.
fn violations(file: &str, text: &str) -> Vec<String> {
    let source = Source::parse(file, text);
    [source.forbidden_arrows(), source.impurities(), source.told_secrets()].concat()
}

#[test]
fn the_checker_sees_every_form_of_a_path() {
    for text in [
        "use crate::hub::Hub;",
        "use crate::{domain::UserId, hub::{self, Hub}};",
        "use crate::{\n    settings::Settings,\n    hub,\n};",
        "pub(crate) use crate::hub as fan_out;",
        "fn f() { let hub = crate::hub::Hub::new(); }",
        "fn f(hub: &super::super::hub::Hub) {}",
        "use super::super::{hub};",
        "use {crate::hub::Hub};",
        "mod inner { fn f() { use super::X; } } fn f() { super::super::hub::f() }",
    ] {
        assert_eq!(violations("store/memory.rs", text).len(), 1, "{text}");
    }
}

#[test]
fn the_checker_sees_each_rule_broken() {
    for (file, text, expected) in [
        ("domain/id.rs", "use crate::store::X;", "src/domain/id.rs:1: `domain` must not name `crate::store`"),
        ("domain/id.rs", "\n\nuse tokio::time;", "src/domain/id.rs:3: the domain must not name `tokio`"),
        ("domain/id.rs", "fn f() { actix_rt::spawn(g()) }", "src/domain/id.rs:1: the domain must not name `actix_rt`"),
        ("clock.rs", "use super::hub::X;", "src/clock.rs:1: `clock` must not name `crate::hub`"),
        ("news.rs", "", "src/news.rs: the module `news` has no row in ARROWS"),
        (
            "node/table.rs",
            "use crate::store::{redis, X};",
            "src/node/table.rs:1: `crate::store::redis` is not for this place",
        ),
        ("node/table.rs", "use redis::Cmd;", "src/node/table.rs:1: `redis` is not for this place"),
        ("node/table.rs", "use deadpool_redis;", "src/node/table.rs:1: `deadpool_redis` is not for this place"),
        ("http/mod.rs", "let x = ::serde_json::json!(1);", "src/http/mod.rs:1: `serde_json` is not for this place"),
        (
            "store/memory.rs",
            "f(\"online:users:set\")",
            "src/store/memory.rs:1: \"online:users:set\" is a name of a Redis key",
        ),
        ("app.rs", "f(r#\"{prefix}:epoch\"#)", "src/app.rs:1: \"{prefix}:epoch\" is a name of a Redis key"),
    ] {
        assert_eq!(violations(file, text), [expected], "{text}");
    }
}

#[test]
fn the_checker_leaves_everything_else_alone() {
    for (file, text) in [
        (
            "store/mod.rs",
            "//! See [`crate::hub`].\n/* use crate::hub; /* nested */ */ fn f() { g(\"crate::hub::Hub\") }",
        ),
        (
            "store/mod.rs",
            "#[cfg(test)]\nmod tests { use crate::hub::Hub; fn f() { if x { y } } }\nuse crate::domain::UserId;",
        ),
        (
            "store/mod.rs",
            "#[cfg(test)]\n#[expect(x, reason = \"]\")]\nuse crate::hub::Hub;\n#[cfg(test)] mod contract;",
        ),
        ("store/mod.rs", "mod redis; use redis::RedisStore; use self::redis::X; pub use super::store::memory::Y;"),
        (
            "store/redis/scripts.rs",
            "use super::keys::Keys; use super::super::StoreError; use crate::store::redis::bus;",
        ),
        (
            "settings.rs",
            "mod seconds { use super::{Deserialize, Duration}; mod deep { use super::super::Y; } } use self::X;",
        ),
        ("store/redis/keys.rs", "f(\":user:socket:\")"),
        ("wire/native.rs", "fn f<'a>(c: char) { c == '\"' || c == '\\''; } // \" use crate::hub;"),
        ("node/table.rs", "fn f(settings: &Settings) { settings.redis.url; log(\"redis: gone\"); }"),
        ("node/table.rs", "use crate::settings::{redis::Url};"),
        ("app.rs", "use crate::{hub, store::redis::RedisStore};"),
    ] {
        assert_eq!(violations(file, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn the_checker_knows_the_files_that_hold_only_tests() {
    let text = "#[cfg(test)]\nmod contract;\nmod memory;\n#[cfg(test)] mod inline { mod x; }";
    assert_eq!(test_files("store/mod.rs", &tokens(text)), ["store/contract.rs", "store/contract/mod.rs"]);
    assert_eq!(test_files("lib.rs", &tokens(text))[0], "contract.rs");
}
