//! The checker is checked: one that sees nothing finds nothing.

use super::Crate;

/// Everything that is wrong with a file of this name and text, one a line.
fn violations(file: &str, text: &str) -> Vec<String> {
    violations_of(&[(file, text)])
}

fn violations_of(files: &[(&str, &str)]) -> Vec<String> {
    let files = Crate::parse(files.iter().copied());
    [files.forbidden_arrows(), files.impurities(), files.told_secrets()].concat()
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
        "fn f() { log!(level, x = %super::super::hub::f()); }",
        "#[derive(crate::hub::Derive)] struct X;",
        "mod inner { pub use crate::hub::X; }",
    ] {
        assert_eq!(violations("store/memory.rs", text).len(), 1, "{text}");
    }
}

#[test]
fn the_checker_sees_each_rule_broken() {
    for (file, text, expected) in [
        ("domain/id.rs", "use crate::store::X;", "src/domain/id.rs:1: `domain` must not name `crate::store`"),
        ("domain/id.rs", "\n\nuse tokio::time;", "src/domain/id.rs:3: `domain` must not name `tokio`"),
        ("domain/id.rs", "fn f() { actix_rt::spawn(g()) }", "src/domain/id.rs:1: `domain` must not name `actix_rt`"),
        ("clock.rs", "use super::hub::X;", "src/clock.rs:1: `clock` must not name `crate::hub`"),
        ("news.rs", "", "src/news.rs: the module `news` has no row in ARROWS"),
        (
            "node/table.rs",
            "use crate::store::{redis, X};",
            "src/node/table.rs:1: `crate::store::redis` is not for this place",
        ),
        ("node/table.rs", "use redis::Cmd;", "src/node/table.rs:1: `redis` is not for this place"),
        ("node/table.rs", "use deadpool;", "src/node/table.rs:1: `deadpool` is not for this place"),
        ("http/mod.rs", "fn f() { ::serde_json::json!(1); }", "src/http/mod.rs:1: `serde_json` is not for this place"),
        (
            "http/mod.rs",
            "fn f(x: &Secret) { log!(x.expose_secret()); }",
            "src/http/mod.rs:1: `expose_secret` is not for this place",
        ),
        (
            "store/memory.rs",
            "const X: &str = \"online:users:set\";",
            "src/store/memory.rs:1: \"online:users:set\" is a name of a Redis key",
        ),
        (
            "app.rs",
            "fn f() { format!(r#\"{prefix}:epoch\"#) }",
            "src/app.rs:1: \"{prefix}:epoch\" is a name of a Redis key",
        ),
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
        ("store/redis/keys.rs", "const X: &str = \":user:socket:\";"),
        ("store/mod.rs", "/// `:user:socket:`\nfn f() {}"),
        ("settings/secret.rs", "fn expose_secret() {}"),
        ("http/mod.rs", "/// `expose_secret`\nfn f() { \"expose_secret\" }"),
        ("wire/native.rs", "fn f<'a>(c: char) { c == '\"' || c == '\\''; } // \" use crate::hub;"),
        ("node/table.rs", "fn f(settings: &Settings) { settings.redis.url; log(\"redis: gone\"); }"),
        ("node/table.rs", "use crate::settings::{redis::Url};"),
        ("app.rs", "use crate::{hub, store::redis::RedisStore};"),
    ] {
        assert_eq!(violations(file, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn the_checker_sees_no_file_that_holds_only_tests() {
    let declared = "#[cfg(test)]\nmod contract;\nmod memory;\n#[cfg(test)] mod inline { mod x; }";
    let files = |file: &'static str| [("store/mod.rs", declared), (file, "use crate::hub::Hub;")];
    for file in ["store/contract.rs", "store/contract/mod.rs", "store/contract/deep.rs"] {
        assert_eq!(violations_of(&files(file)), Vec::<String>::new(), "{file}");
    }
    assert_eq!(violations_of(&files("store/memory.rs")).len(), 1);
    assert_eq!(violations_of(&[("lib.rs", declared), ("contract.rs", "use crate::hub::Hub;")]), Vec::<String>::new());
}

/// What is reached through a struct: `clock` holds a hub here, and `store` may know `clock` but no hub.
const HOLDER: &[(&str, &str)] = &[
    (
        "hub/mod.rs",
        "mod deep; pub use self::deep::Hub;
         pub trait Spread { fn spread(&self) -> usize; fn twice(&self) -> usize { 2 } }
         pub type Hubs = Vec<Hub>;",
    ),
    (
        "hub/deep.rs",
        "pub struct Hub { pub n: usize } impl Hub { pub fn n(&self) -> usize { self.n } }
         impl super::Spread for Hub { fn spread(&self) -> usize { 1 } }",
    ),
    (
        "clock.rs",
        "use crate::hub::{self, Hub, Hubs, Spread};
         pub struct Clock { pub hub: Arc<Hub>, pub any: Box<dyn Spread>, pub all: Hubs, pub json: serde_json::Value }
         pub enum Told { One(Hub), Two { hub: Hub } }
         impl Clock {
             pub fn hub(&self) -> Option<&Hub> { None }
             pub fn with<T>(&self, f: impl FnOnce(&Hub) -> T) -> T { f(&self.hub) }
             pub async fn later(&self) -> Result<(Hub, usize), ()> { Err(()) }
         }
         pub fn hub() -> Hub { hub::make() }
         pub static HUB: LazyLock<Hub> = LazyLock::new(hub);",
    ),
];

fn reached_from(file: &str, text: &str) -> Vec<String> {
    let here = format!("src/{file}:");
    let mut files = HOLDER.to_vec();
    files.push((file, text));
    violations_of(&files).into_iter().filter(|line| line.starts_with(&here)).collect()
}

#[test]
fn the_checker_sees_what_is_reached_without_being_named() {
    for code in [
        "fn f(clock: &Clock) { clock.hub.n(); }",
        "fn f(clock: web::Data<Clock>) { clock.hub.n; }",
        "struct S { clock: Rc<Clock> } impl S { fn f(&self) { self.clock.hub.n(); } }",
        "struct S { clock: Rc<Clock> } impl S { fn f(self: Arc<Self>) { let Self { clock } = &*self; clock.hub.n() } }",
        "fn f<C: AsRef<Clock>>(clock: C) { let hub = clock.as_ref().hub.clone(); hub.n(); }",
        "fn f(clock: &Clock) { let Clock { hub, .. } = clock; hub.n(); }",
        "fn f(clock: &Clock) { let Some(hub) = clock.hub() else { return }; hub.n(); }",
        "fn f(clock: &Clock) { if let Some(hub) = clock.hub() && hub.n() > 1 {} }",
        "fn f(clock: &Clock) { clock.hub().map(|hub| hub.n()); }",
        "fn f(clock: &Clock) { clock.with(|hub| hub.n()); }",
        "fn f(clock: &Clock) { clock.with(|hub| Clone::clone(hub)).n(); }",
        "fn f(clock: &Clock) { Clock::with(clock, |hub| hub.n()); }",
        "async fn f(clock: &Clock) { let (hub, _) = clock.later().await.unwrap(); hub.n(); }",
        "async fn f(clock: &Clock) -> Result<(), ()> { clock.later().await?.0.n(); Ok(()) }",
        "fn f(clock: &Clock) { for hub in &clock.all { hub.n(); } }",
        "fn f(clock: &Clock) { clock.all[0].n(); }",
        "fn f(clock: &Clock) { clock.any.spread(); }",
        "fn f(clock: &Clock) { clock.hub.twice(); }",
        "fn f(told: Told) { match told { Told::One(hub) | Told::Two { hub } => hub.n(), } }",
        "fn f() { crate::clock::hub().n(); }",
        "fn f() { crate::clock::HUB.n(); }",
        "fn f(clock: &Clock) { info!(hubs = clock.hub.n(), \"All is well\"); }",
        "fn f(clock: &Clock) { tokio::select! { n = async { clock.hub.n() }, if true => {} } }",
        "fn f(clock: &Clock) { tokio::select! { () = gone() => clock.hub.n(), else => {} } }",
        "fn f(clock: &Clock) { vec![&clock.hub].iter().for_each(|hub| drop(hub.n())); }",
        "fn f(clock: Clock) { spawn(async move { let hub = clock.hub; fn g(c: &Clock) {} hub.n() }); }",
        "fn f() { fn g(clock: &Clock) { clock.hub.n(); } }",
        "const N: usize = { crate::clock::HUB.n };",
    ] {
        let text = format!("use crate::clock::{{Clock, Told}}; {code}");
        let found = reached_from("store/memory.rs", &text);
        assert!(found.len() == 1 && found[0].contains("`store` must not reach `crate::hub`"), "{code}: {found:?}");
    }
    let code = "use crate::clock::Clock;\n\nfn f(clock: &Clock) {\n    clock\n        .hub\n        .n();\n}";
    assert_eq!(
        reached_from("store/memory.rs", code),
        ["src/store/memory.rs:6: `store` must not reach `crate::hub`, here `crate::hub::deep::Hub::n`"],
    );
    let code = "fn f(clock: &crate::clock::Clock) { clock.json.as_str(); }";
    assert_eq!(reached_from("node/table.rs", code), ["src/node/table.rs:1: `serde_json` is not for this place"]);
}

#[test]
fn the_checker_sees_where_a_thing_is_handed_on_from() {
    let code = "use crate::clock::Other;";
    let files =
        [("hub/mod.rs", "pub struct Hub;"), ("clock.rs", "pub use crate::hub::Hub as Other;"), ("store.rs", code)];
    let found = violations_of(&files);
    assert!(found.contains(&"src/store.rs:1: `store` must not name `crate::hub`".to_owned()), "{found:?}");
}

#[test]
fn the_checker_lets_values_be_handed_on() {
    for code in [
        "fn f(clock: &Clock) { g(clock.hub.clone()); }",
        "fn f(clock: &Clock) -> usize { let hub = 1; { let hub = &clock.hub; } hub.n() }",
        "struct Own { hub: u64 } fn f(own: &Own) { own.hub.n(); }",
        "struct Own { n: u64 } fn f(own: &Own) { own.n; own.n(); }",
    ] {
        let text = format!("use crate::clock::Clock; {code}");
        assert_eq!(reached_from("store/memory.rs", &text), Vec::<String>::new(), "{code}");
    }
}
