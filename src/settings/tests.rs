//! Every key, layer and complaint.

use config::{Value, ValueKind};

use super::files::SECRET_KEYS;
use super::layers::{DEFAULTS, SHORT_NAMES};
use super::*;

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("rollcall-settings-{}-{number}.toml", std::process::id()));
    std::fs::write(&path, toml).unwrap();
    let environment = environment.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    let result = Settings::load(Some(&path), environment);
    std::fs::remove_file(&path).unwrap();
    result.map_err(|error| {
        let line = error.to_string().replace(&path.display().to_string(), "FILE");
        assert!(!line.contains('\n'), "not one line: {line}");
        line
    })
}

#[test]
fn the_defaults_are_valid_and_those_of_the_design() {
    let settings = load("", &[]).unwrap();
    assert_eq!((settings.server.host.as_str(), settings.server.port), ("127.0.0.1", 8080));
    assert!(settings.redis.url.is_none());
    assert_eq!(settings.presence.lease, Duration::from_secs(10));
    assert_eq!(settings.presence.last_seen_ttl, Duration::from_hours(30 * 24));
    assert_eq!(settings.telemetry.log_format, LogFormat::Text);
    assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
}

#[test]
fn every_key_of_the_default_file_is_read_and_explained() {
    let unchanged = format!("{:?}", Settings::default());
    for (key, value) in Layers::defaults().values {
        let other = match (key.as_str(), &value.kind) {
            (_, ValueKind::I64(number)) => ValueKind::I64(number + 1),
            (_, ValueKind::Boolean(is_on)) => ValueKind::Boolean(!is_on),
            ("redis.url", _) => "redis://elsewhere".into(),
            ("rooms.access", _) => "registered".into(),
            ("auth.mode", _) => "jwt".into(),
            ("auth.metrics", _) => "open".into(),
            ("server.proxy_protocol", _) => "on".into(),
            ("telemetry.log_format", _) => "json".into(),
            (_, ValueKind::Array(_)) => vec!["https://a.example"].into(),
            _ => "another".into(),
        };
        let mut layers = Layers::defaults();
        layers.set(&key, Value::new(None, other), &key, "a test").unwrap();
        assert_ne!(format!("{:?}", layers.deserialize().unwrap()), unchanged, "{key} is not read");

        let name = key.split_once('.').unwrap().1;
        let before = DEFAULTS.split(&format!("\n{name} = ")).next().unwrap();
        assert!(before.lines().next_back().unwrap().starts_with("# "), "{key} has no comment");
    }
}

#[test]
fn the_ranges_that_the_default_file_tells_are_those_that_are_checked() {
    let mut numbers = Layers::defaults().values;
    for (name, _, range) in Settings::default().ranges() {
        assert!(numbers.remove(name).is_some(), "{name} is not in the file");
        let (section, key) = name.split_once('.').unwrap();
        let section = DEFAULTS.split(&format!("[{section}]\n")).nth(1).unwrap();
        let comment = section.split(&format!("\n{key} = ")).next().unwrap().rsplit("\n\n").next().unwrap();
        let text = format!("Range {}..={}", range.start(), range.end());
        assert!(comment.replace("\n# ", " ").contains(&text), "{name}: {text} is not in: {comment}");

        let beyond = load(&format!("{name} = {}", range.end() + 1), &[]).unwrap_err();
        assert!(beyond.starts_with(&format!("{name} = ")) && beyond.contains("out of range"), "{beyond}");
        assert!(beyond.ends_with(&format!("({name} comes from FILE)")), "{beyond}");
        let negative = load(&format!("{name} = -1"), &[]).unwrap_err();
        assert!(negative.starts_with(&format!("{name} = -1 is out of range")), "{negative}");
    }
    numbers.retain(|_, value| matches!(value.kind, ValueKind::I64(_)));
    assert!(numbers.is_empty(), "no range: {numbers:?}");
}

#[test]
fn the_readme_names_settings_that_exist_with_their_variables_and_defaults() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert_eq!(mistakes_in_table(&readme), Vec::<String>::new());
}

#[test]
fn a_mistake_in_the_readme_is_found() {
    for (row, mistake) in [
        ("| `server.prot` | `ROLLCALL__SERVER__PROT` | `8080` | |", "server.prot does not exist"),
        ("| `server.port` | `PORT`, `ROLLCALL__SERVER__PORT` | `8081` | |", "server.port has the default `8080`"),
        ("| `server.port` | `ROLLCALL__SERVER__PORT` | `8080` | |", "server.port is `PORT`, `ROLLCALL__SERVER__PORT`"),
        ("| `redis.url` | `REDIS_URL`, `ROLLCALL__REDIS__URL` | | |", "redis.url has the default empty"),
    ] {
        assert_eq!(mistakes_in_table(&format!("{TABLE_HEAD}|---|---|---|---|\n{row}\n")), [mistake]);
    }
    assert_eq!(mistakes_in_table("| setting | default |\n"), ["there is no table of the settings"]);
    assert_eq!(
        mistakes_in_table(&format!("{TABLE_HEAD}|---|---|---|---|\n\n")),
        ["the table of the settings is empty"]
    );
}

const TABLE_HEAD: &str = "| setting | environment variable | default | what it is |\n";

/// What README's table of the settings says that `config/default.toml` does not.
fn mistakes_in_table(readme: &str) -> Vec<String> {
    let Some((_, table)) = readme.split_once(TABLE_HEAD) else {
        return vec!["there is no table of the settings".to_owned()];
    };
    let rows: Vec<_> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    if rows.is_empty() {
        return vec!["the table of the settings is empty".to_owned()];
    }
    rows.into_iter().filter_map(mistake_in_row).collect()
}

fn mistake_in_row(row: &str) -> Option<String> {
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    let [_, name, variables, default, ..] = cells[..] else { return Some(format!("{row} is no row")) };
    let name = name.trim_matches('`');
    let Some(value) = Layers::defaults().values.remove(name) else { return Some(format!("{name} does not exist")) };
    let short = SHORT_NAMES.iter().filter(|(_, key)| *key == name).map(|(short, _)| format!("`{short}`, "));
    let long = format!("`ROLLCALL__{}`", name.to_uppercase().replace('.', "__"));
    let expected_variables = short.collect::<String>() + &long;
    let text = match &value.kind {
        ValueKind::Array(values) => values.iter().map(Value::to_string).collect::<Vec<_>>().join(","),
        _ => value.to_string(),
    };
    let expected_default = if text.is_empty() { "empty".to_owned() } else { format!("`{text}`") };
    if variables != expected_variables {
        return Some(format!("{name} is {expected_variables}"));
    }
    (default != expected_default).then(|| format!("{name} has the default {expected_default}"))
}

#[test]
fn each_contradiction_names_both_settings_and_who_set_them() {
    for (toml, line) in [
        ("presence.beat_ms = 4000", "presence.lease_ms = 10000 must be at least 3 times presence.beat_ms = 4000"),
        (
            "redis.call_timeout_ms = 5001",
            "redis.call_timeout_ms = 5001 must be at most half of presence.lease_ms = 10000",
        ),
        ("presence.grace_ms = 10000", "presence.grace_ms = 10000 must be less than presence.lease_ms = 10000"),
        (
            "drain.reconnect_spread_ms = 7001",
            "drain.reconnect_spread_ms = 7001 plus presence.grace_ms = 3000 \
             must be at most presence.lease_ms = 10000",
        ),
        (
            "presence.user_ttl_ms = 39999",
            "presence.user_ttl_ms = 39999 must be at least 4 times presence.lease_ms = 10000",
        ),
        (
            "websocket.silence_timeout_ms = 50000",
            "websocket.silence_timeout_ms = 50000 must be more than 2 times websocket.ping_interval_ms = 25000",
        ),
        (
            "limits.answers_bytes = 4194303",
            "limits.answers_bytes = 4194303 must be at least 4 times limits.page_bytes = 1048576",
        ),
        ("limits.watches = 999", "limits.watches_per_socket = 1000 must be at most limits.watches = 999"),
        ("limits.message_burst = 59", "limits.request_burst = 60 must be at most limits.message_burst = 59"),
        (
            "auth.jwks_min_interval_ms = 300001",
            "auth.jwks_min_interval_ms = 300001 must be at most auth.jwks_refresh_ms = 300000",
        ),
        (
            "auth.jwks_timeout_ms = 10000",
            "auth.jwks_timeout_ms = 10000 must be less than auth.jwks_min_interval_ms = 10000",
        ),
        ("limits.page_default = 10001", "limits.page_default = 10001 must be at most limits.page_max = 10000"),
    ] {
        let name = toml.split_once(' ').unwrap().0;
        assert_eq!(load(toml, &[]).unwrap_err(), format!("{line} ({name} comes from FILE)"));
    }
}

#[test]
fn what_is_on_or_off_is_read_from_the_file_and_from_the_environment() {
    let page =
        |toml: &str, variable: &str| load(toml, &[("ROLLCALL__SERVER__PAGE", variable)]).map(|read| read.server.page);
    assert_eq!(page("", ""), Ok(true));
    assert_eq!(page("server.page = false", ""), Ok(false));
    assert_eq!(page("", "false"), Ok(false));
    assert_eq!(page("server.page = false", "true"), Ok(true));
}

#[test]
fn what_is_wrong_is_said_in_one_line_that_names_setting_and_source() {
    for (toml, environment, line) in [
        ("[server]\nprot = 1", ("", ""), "unknown setting \"server.prot\" in FILE"),
        ("[servers]", ("", ""), "unknown setting \"servers\" in FILE"),
        ("server = 1", ("", ""), "unknown setting \"server\" in FILE"),
        ("[server.port]\na = 1", ("", ""), "unknown setting \"server.port.a\" in FILE"),
        ("", ("ROLLCALL__X__Y", "1"), "unknown setting \"ROLLCALL__X__Y\" in the environment"),
        ("", ("ROLLCALL__SERVER", ""), "unknown setting \"ROLLCALL__SERVER\" in the environment"),
        ("server.port = true", ("", ""), "server.port must be an integer, not true (server.port comes from FILE)"),
        ("server.port = 80.5", ("", ""), "server.port must be an integer, not 80.5 (server.port comes from FILE)"),
        ("redis.url = ['pw']", ("", ""), "redis.url must be a string, not a list (redis.url comes from FILE)"),
        (
            "",
            ("PORT", "x"),
            "server.port must be an integer, not \"x\" (server.port comes from PORT in the environment)",
        ),
        ("server.page = 0", ("", ""), "server.page must be true or false, not 0 (server.page comes from FILE)"),
        (
            "",
            ("ROLLCALL__SERVER__PAGE", "no"),
            "server.page must be true or false, not \"no\" \
             (server.page comes from ROLLCALL__SERVER__PAGE in the environment)",
        ),
        (
            "rooms.access = 'closed'",
            ("", ""),
            "rooms.access must be \"open\" or \"registered\" (rooms.access comes from FILE)",
        ),
        (
            "telemetry.log_format = 'xml'",
            ("", ""),
            "telemetry.log_format must be \"text\" or \"json\" (telemetry.log_format comes from FILE)",
        ),
        (
            "",
            ("REDIS_URL", "https://:pw@h"),
            "redis.url must start with redis://, or with rediss:// for TLS \
             (redis.url comes from REDIS_URL in the environment)",
        ),
        (
            "redis.url = 'pw",
            ("", ""),
            "settings file FILE: TOML parse error at line 1, column 16: \
             invalid literal string, expected `'`",
        ),
    ] {
        assert_eq!(load(toml, &[environment]).unwrap_err(), line);
    }
    for toml in [
        "server.host = ''",
        "server.host = 'http://a'",
        "server.cors_allowed_origins = ['*', 'https://a.example']",
        "server.cors_allowed_origins = ['https://a.example/']",
        "server.cors_allowed_origins = ['https://A.example']",
        "server.cors_allowed_origins = ['a.example']",
        "redis.prefix = ''",
        "redis.prefix = 'a:'",
        "redis.prefix = 'a b'",
        "redis.prefix = 'app:presence'",
        "redis.prefix = 'app:eu:user:socket'",
        "telemetry.log_filter = 'rollcall=loud'",
    ] {
        let (name, value) = toml.split_once(" = ").unwrap();
        let value = value.replace('\'', "\"");
        let line = load(toml, &[]).unwrap_err();
        assert!(line.starts_with(&format!("{name} = {value} must be ")), "{line}");
    }
    let missing = Settings::load(Some(Path::new("/no/such.toml")), HashMap::new()).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read settings file /no/such.toml");
}

#[test]
fn what_goes_together_is_checked_together() {
    const SECRET: &str = "auth.secret = '0123456789abcdef0123456789abcdef'";
    let with = |rest: &str| format!("auth.mode = 'jwt'\n{rest}");
    for (toml, line) in [
        (SECRET.to_owned(), "auth.mode = \"trusted\" checks no token, so auth.secret must be empty"),
        (
            "auth.jwks_url = 'https://a'".to_owned(),
            "auth.mode = \"trusted\" checks no token, so auth.jwks_url must be empty",
        ),
        (with(""), "auth.mode = \"jwt\" needs one of auth.secret, auth.public_key and auth.jwks_url"),
        (with(&format!("{SECRET}\nauth.jwks_url = 'https://a'")), "auth.secret and auth.jwks_url exclude each other"),
        (with("auth.secret = '0123456789abcdef0123456789abcde'"), "auth.secret must have at least 32 bytes"),
        (
            with(&format!("{SECRET}\nauth.algorithms = ['none']")),
            "auth.algorithms has \"none\": it may have HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, \
             ES256, ES384, EdDSA",
        ),
        (
            with(&format!("{SECRET}\nauth.algorithms = ['HS256', 'RS256']")),
            "auth.algorithms has \"RS256\", which does not go with auth.secret",
        ),
        (
            with("auth.public_key = 'pem'\nauth.algorithms = ['HS256']"),
            "auth.algorithms has \"HS256\", which does not go with auth.public_key",
        ),
        (
            "auth.default_scopes = ['admin']".to_owned(),
            "auth.default_scopes has \"admin\": it may have presence:read, presence:write, presence:invisible, observe",
        ),
        ("auth.claim_user = ''".to_owned(), "auth.claim_user must not be empty"),
        (
            "server.proxy_protocol = 'on'".to_owned(),
            "server.proxy_protocol = \"on\" needs server.trusted_proxies: nobody is trusted to send the header",
        ),
        (
            "server.tls_key_path = 'key.pem'".to_owned(),
            "server.tls_certificate_path and server.tls_key_path must be set together",
        ),
        (
            "redis.tls_certificate_path = 'a.pem'".to_owned(),
            "redis.tls_certificate_path and redis.tls_key_path must be set together",
        ),
        (
            "redis.tls_ca_path = 'ca.pem'\nredis.url = 'redis://h'".to_owned(),
            "redis.tls_ca_path needs a redis.url that begins with rediss://",
        ),
        (
            "redis.password = 's3cret'\nredis.url = 'redis://:other@h'".to_owned(),
            "redis.password must be empty, because redis.url has a user or a password",
        ),
    ] {
        let told = load(&toml, &[]).unwrap_err();
        assert_eq!(told.split(" (").next().unwrap(), line, "{toml}");
    }
    for toml in [
        with(SECRET),
        with(&format!("{SECRET}\nauth.algorithms = ['HS512']")),
        with("auth.public_key = 'pem'\nauth.algorithms = ['ES256', 'EdDSA']"),
        "redis.username = 'a'\nredis.password = 'b'\nredis.url = 'redis://h'".to_owned(),
        "server.trusted_proxies = ['10.0.0.0/8', '::1', '192.0.2.7']\nserver.proxy_protocol = 'on'".to_owned(),
    ] {
        load(&toml, &[]).unwrap_or_else(|line| panic!("{toml}: {line}"));
    }
    for proxy in ["0.0.0.0/0", "::/0", "10.0.0.0/33", "proxy", "", "10.0.0.1:80"] {
        let line = load(&format!("server.trusted_proxies = ['{proxy}']"), &[]).unwrap_err();
        assert!(line.starts_with(&format!("server.trusted_proxies has \"{proxy}\": it may have ")), "{line}");
    }
}

#[test]
fn keys_are_fetched_only_from_where_nobody_else_can_answer() {
    let load = |url: &str| load(&format!("auth.mode = 'jwt'\nauth.jwks_url = \"{url}\""), &[]);
    for url in [
        "https://issuer.example/keys",
        "https://issuer.example:8443/a?b",
        "http://localhost:8080/keys",
        "http://127.0.0.1/keys",
        "http://[::1]:8080/keys",
    ] {
        assert!(load(url).is_ok(), "{url}");
    }
    for url in [
        "http://issuer.example/keys",
        "http://10.0.0.1/keys",
        "http://localhost.evil.example/",
        "http://localhost@evil.example/",
        "https://user:pass@issuer.example/",
        "http://localhost\\\\@evil.example/",
        "https://",
        "https://a b",
        "ftp://localhost",
        "issuer.example",
        "localhost",
        "https://:8443/keys",
        "https://user:pass@issuer.example/",
        "http://user:pass@localhost/",
    ] {
        let line = load(url).unwrap_err();
        let told = "auth.jwks_url must begin with https://, or with http:// on this machine, and have no login";
        assert_eq!(line.split(" (").next().unwrap(), told, "{url}");
        assert!(!line.contains("pass"), "{line}");
    }
}

#[test]
fn a_secret_is_in_no_debug_text() {
    let toml = "auth.mode = 'jwt'\nauth.secret = 's3cret-s3cret-s3cret-s3cret-s3cret'\nredis.password = 's3cret'\n\
                auth.api_keys = ['s3cret']";
    let settings = load(toml, &[("REDIS_PASSWORD", "s3cret-too")]).unwrap();
    assert_eq!(settings.redis.password.as_ref().unwrap().expose_secret(), "s3cret-too");
    assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
}

#[test]
fn a_secret_may_be_in_a_file_that_a_variable_names() {
    let file = SecretFile::new("s3cr,t\n");
    for (variable, value) in [
        ("REDIS_PASSWORD_FILE", "s3cr,t"),
        ("ROLLCALL__REDIS__PASSWORD_FILE", "s3cr,t"),
        ("ROLLCALL__REDIS__PASSWORD", "plain"),
    ] {
        let text = if variable.ends_with("_FILE") { file.path() } else { "plain" };
        let password = load("redis.password = 'file'", &[(variable, text)]).unwrap().redis.password.unwrap();
        assert_eq!(password.expose_secret(), value, "{variable}");
    }
    let windows = SecretFile::new("s3cret\r\n");
    let password = load("", &[("REDIS_PASSWORD_FILE", windows.path())]).unwrap().redis.password.unwrap();
    assert_eq!(password.expose_secret(), "s3cret");
    let url = SecretFile::new("redis://:s3cret@h:7/1");
    for variable in ["REDIS_URL_FILE", "ROLLCALL__REDIS__URL_FILE"] {
        let settings = load("", &[(variable, url.path())]).unwrap();
        assert_eq!(settings.redis.url.unwrap().expose_secret(), "redis://:s3cret@h:7/1");
    }
    let keys = SecretFile::new("a:admin:00,11\nb:metrics:22\n");
    let settings = load("", &[("ROLLCALL__AUTH__API_KEYS_FILE", keys.path())]).unwrap();
    let keys: Vec<_> = settings.auth.api_keys.iter().map(Secret::expose_secret).collect();
    assert_eq!(keys, ["a:admin:00,11", "b:metrics:22"], "one a line");
    let pem = SecretFile::new("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n");
    let settings =
        load("auth.mode = 'jwt'", &[("ROLLCALL__AUTH__PUBLIC_KEY_FILE", pem.path()), ("REDIS_URL_FILE", "")]).unwrap();
    assert!(settings.auth.public_key.unwrap().expose_secret().ends_with("AA==\n-----END PUBLIC KEY-----"));
}

#[test]
fn a_secret_that_cannot_be_had_from_its_file_is_refused() {
    let file = SecretFile::new("s3cret");
    for (variable, other) in
        [("REDIS_PASSWORD", "REDIS_PASSWORD_FILE"), ("ROLLCALL__AUTH__SECRET", "ROLLCALL__AUTH__SECRET_FILE")]
    {
        let line = load("", &[(variable, "s3cret"), (other, file.path())]).unwrap_err();
        assert_eq!(line, format!("{variable} and {other} exclude each other: set one of them"));
    }
    let line = load("", &[("REDIS_PASSWORD_FILE", "/no/such/file")]).unwrap_err();
    assert_eq!(line, "cannot read /no/such/file (REDIS_PASSWORD_FILE in the environment)");
    let empty = SecretFile::new("\n");
    let line = load("", &[("REDIS_PASSWORD_FILE", empty.path())]).unwrap_err();
    assert_eq!(line, format!("{} is empty (REDIS_PASSWORD_FILE in the environment)", empty.path()));
    // What is no secret has no file.
    let line = load("", &[("ROLLCALL__SERVER__HOST_FILE", file.path())]).unwrap_err();
    assert_eq!(line, "unknown setting \"ROLLCALL__SERVER__HOST_FILE\" in the environment");
    assert_eq!(load("", &[("HOST_FILE", file.path())]).unwrap().server.host, "127.0.0.1");
}

/// A file with a secret, removed with the value.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(text: &str) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rollcall-secret-{}-{number}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn no_complaint_quotes_a_secret() {
    for key in SECRET_KEYS {
        assert!(Layers::defaults().values.contains_key(key), "{key} is no setting");
        for value in ["5307", "5307.5", "true", "'s3cret'", "['s3cret']", "[5307]", "-5307", "{ a = 5307 }"] {
            let Err(line) = load(&format!("{key} = {value}"), &[]) else { continue };
            let quotes = ["5307", "true", "s3cret"].into_iter().find(|secret| line.contains(secret));
            assert_eq!(quotes, None, "{key} = {value}: {line}");
        }
    }
    let line = load("auth.secret = 5307", &[]).unwrap_err();
    assert_eq!(line, "auth.secret must be a string, not a number (auth.secret comes from FILE)");
}

#[test]
fn later_layers_win() {
    let toml = "[server]\nhost = 'file'\nport = 1\nworkers = 1\n[presence]\n[redis]\nurl = 'redis://file'";
    let long = [("ROLLCALL__SERVER__HOST", "long"), ("ROLLCALL__SERVER__PORT", "2"), ("ROLLCALL__REDIS__URL", "")];
    let short = [("PORT", "3"), ("HOST", ""), ("REDIS_URL", "redis://:pw@short:1/2"), ("ROLLCALL_PORT", "tcp://k8s")];
    let of_file = load(toml, &[]).unwrap();
    assert_eq!((of_file.server.host.as_str(), of_file.server.port, of_file.server.workers), ("file", 1, 1));
    assert_eq!(of_file.server.max_sockets, Settings::default().server.max_sockets);
    let of_long = load(toml, &long).unwrap();
    assert_eq!((of_long.server.host.as_str(), of_long.server.port, of_long.server.workers), ("long", 2, 1));
    assert_eq!(of_long.redis.url.unwrap().expose_secret(), "redis://file", "an empty variable is unset");
    let of_short = load(toml, &[long.as_slice(), short.as_slice()].concat()).unwrap();
    assert_eq!((of_short.server.host.as_str(), of_short.server.port, of_short.server.workers), ("long", 3, 1));
    assert_eq!(of_short.redis.url.unwrap().expose_secret(), "redis://:pw@short:1/2");
    let list = load("", &[("ROLLCALL__SERVER__CORS_ALLOWED_ORIGINS", "https://a.example, app://b:1")]).unwrap();
    assert_eq!(list.server.cors_allowed_origins, ["https://a.example", "app://b:1"]);
}

#[test]
fn a_redis_url_shows_where_but_never_the_password() {
    for (text, shown) in [
        ("redis://host", "redis://host:6379/0"),
        ("redis://:s3cret@host:7000/2", "redis://host:7000/2"),
        ("redis://user:s3cr@et@10.0.0.1/", "redis://10.0.0.1:6379/0"),
        ("redis://:s3cret@[::1]", "redis://[::1]:6379/0"),
        ("redis://:s3cret@[::1]:7000", "redis://[::1]:7000/0"),
        ("rediss://user:s3cret@host", "rediss://host:6379/0"),
    ] {
        let url: RedisUrl = text.parse().unwrap();
        assert_eq!((url.to_string().as_str(), url.expose_secret()), (shown, text));
        let settings = load("", &[("REDIS_URL", text)]).unwrap();
        assert!(!format!("{settings:?}").contains("s3cr"), "{settings:?}");
    }
    for text in [
        "s3cret",
        "rediss://:s3cret@h/0#insecure",
        "redis://",
        "redis://:s3/cret@h",
        "redis://:s3#cret@h",
        "redis://:s3cret@h:0",
        "redis://:s3cret@h:x",
        "redis://:s3cret@h/x",
        "redis://:s3cret@h/0?db=1",
        "redis://h s3cret",
        "unix:///s3cret",
    ] {
        let line = load("", &[("REDIS_URL", text)]).unwrap_err();
        assert!(line.starts_with("redis.url must ") && !line.contains("s3") && !line.contains("cret"), "{line}");
    }
}
