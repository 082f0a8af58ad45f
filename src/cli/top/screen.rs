//! What is on the screen: from an answer of a node to lines.

use serde_json::Value;

use super::super::colour::Colour;
use super::super::columns::{pad, width};
use super::super::event::status;
use super::super::printout::{clean, duration, lease, text};
use super::history::{COUNTERS, History};
use super::line::Line;

/// What is to be seen.
pub(super) struct Picture<'a> {
    /// What the node said last.
    pub(super) data: &'a Value,
    /// What it said before.
    pub(super) history: &'a History,
    /// What the last line says.
    pub(super) footer: Line,
}

/// Above this share, a limit is shown in another colour.
const NEARLY_FULL: f64 = 0.8;

impl Picture<'_> {
    /// The lines for a screen of this size. What does not fit is left out: first the oldest transitions, then nodes.
    pub(super) fn lines(&self, width: usize, height: usize) -> Vec<Line> {
        let mut lines = head(self.data);
        lines.push(Line::default());
        lines.extend((0..COUNTERS.len()).map(|counter| self.rate(counter, width)));
        lines.push(Line::default());
        // A line remains for what the last line says.
        let rest = height.saturating_sub(lines.len() + 1);
        let nodes = nodes(self.data, (rest / 2).max(3));
        let rest = rest.saturating_sub(nodes.len());
        lines.extend(nodes);
        lines.extend(transitions(self.data, rest));
        lines.truncate(height.saturating_sub(1));
        lines.resize(height.saturating_sub(1), Line::default());
        lines.push(self.footer.clone());
        lines
    }

    fn rate(&self, counter: usize, width: usize) -> Line {
        const LABELS: usize = 22;
        let rate = self.history.rate(counter).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
        let label = format!("{:<10} {rate:>9}  ", COUNTERS[counter].1);
        Line::plain(label).and(Colour::Green, self.history.bars(counter, width.saturating_sub(LABELS)))
    }
}

/// All that there is, once, without rates.
pub(super) fn whole(data: &Value) -> Vec<Line> {
    let counters = COUNTERS.iter().map(|(name, _)| format!("{name} {}", number(&data["here"]["counters"][*name])));
    let counters = format!("since its start: {}", counters.collect::<Vec<_>>().join("  "));
    let mut lines = head(data);
    lines.extend([Line::plain(counters), Line::default()]);
    lines.extend(nodes(data, usize::MAX));
    lines.extend(transitions(data, usize::MAX));
    while lines.last() == Some(&Line::default()) {
        lines.pop();
    }
    lines
}

/// The node that was asked.
fn head(data: &Value) -> Vec<Line> {
    let here = &data["here"];
    let name = format!("{} ({})", text(&here["name"]), text(&here["nodeId"]));
    let about = format!("  rollcall {}  up {}  ", text(&here["version"]), age(&here["uptimeMs"]));
    let first = Line::of(Colour::Bold, name).and(Colour::Plain, about);
    let (colour, state) = condition(data);
    let counts = format!(
        "{} online  {} here{}  {} followed",
        counted(&here["users"], "user"),
        counted(&here["sockets"], "socket"),
        formats(&here["formats"]),
        counted(&here["openRooms"], "room")
    );
    vec![first.and(colour, state), Line::plain(counts), limits(&here["limits"])]
}

/// How the node is, in words.
fn condition(data: &Value) -> (Colour, String) {
    let here = &data["here"];
    let mut states = Vec::new();
    if here["ready"] != true {
        states.push(format!("not ready: {}", text(&here["reason"])));
    }
    if here["draining"] == true {
        states.push("shuts down".to_owned());
    }
    if here["degraded"] == true {
        states.push(format!("may be out of date since {}", clock(&here["asOf"])));
    }
    if here["holding"] == true {
        states.push("tells no departures yet".to_owned());
    }
    if data["store"]["answered"] != true {
        states.push(format!("{} does not answer", text(&data["store"]["kind"])));
    }
    match states.is_empty() {
        true => (Colour::Green, "ready".to_owned()),
        false => (Colour::Red, states.join(", ")),
    }
}

/// The formats that somebody speaks.
fn formats(formats: &Value) -> String {
    let spoken = formats.as_object().into_iter().flatten().filter(|(_, n_sockets)| n_sockets.as_u64() != Some(0));
    let spoken: Vec<_> = spoken.map(|(name, n_sockets)| format!("{} {}", number(n_sockets), clean(name))).collect();
    if spoken.is_empty() { String::new() } else { format!(" ({})", spoken.join(", ")) }
}

fn limits(limits: &Value) -> Line {
    let named = [("sockets", "sockets"), ("httpConnections", "http connections"), ("pollingSockets", "polling")];
    named.into_iter().fold(Line::plain("limits:"), |line, (name, label)| {
        let (used, max) = (&limits[name]["used"], &limits[name]["max"]);
        let share = used.as_f64().unwrap_or_default() / max.as_f64().unwrap_or(f64::INFINITY).max(1.0);
        let colour = if share > NEARLY_FULL { Colour::Red } else { Colour::Plain };
        line.and(colour, format!("  {label} {} of {}", number(used), number(max)))
    })
}

/// The nodes, in as many lines at most, and an empty line.
fn nodes(data: &Value, n_lines: usize) -> Vec<Line> {
    const NAMES: [&str; COLUMNS] = ["node", "id", "version", "sockets", "state", "lease", "up"];
    let nodes = array(&data["nodes"]);
    let room = n_lines.saturating_sub(2);
    // One line says how many are left out.
    let n_shown = if nodes.len() > room { room.saturating_sub(1) } else { nodes.len() };
    let rows: Vec<_> = nodes[..n_shown].iter().map(columns).collect();
    let mut widths = NAMES.map(str::len);
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(widest, (_, text))| *widest = width(text).clamp(*widest, WIDEST));
    }
    let mut lines = vec![row(' ', &NAMES.map(|name| (Colour::Bold, name.to_owned())), widths)];
    for (node, columns) in nodes.iter().zip(&rows) {
        lines.push(row(if node["nodeId"] == data["here"]["nodeId"] { '>' } else { ' ' }, columns, widths));
    }
    if n_shown < nodes.len() {
        lines.push(Line::of(Colour::Dim, format!("  and {} more", nodes.len() - n_shown)));
    }
    lines.push(Line::default());
    lines
}

/// How many columns a node has, and how wide they become.
const COLUMNS: usize = 7;
const WIDEST: usize = 24;

/// One row. What is too long for its column pushes the others.
fn row(mark: char, columns: &[(Colour, String); COLUMNS], widths: [usize; COLUMNS]) -> Line {
    columns.iter().zip(widths).fold(Line::plain(format!("{mark} ")), |line, ((colour, text), width)| {
        line.and(*colour, pad(text, width)).and(Colour::Plain, "  ")
    })
}

/// What is said of one node.
fn columns(node: &Value) -> [(Colour, String); COLUMNS] {
    let (colour, state) = match (node["drained"] == true, node["answered"] == true, node["degraded"] == true) {
        (true, ..) => (Colour::Yellow, "shut down"),
        (_, false, _) => (Colour::Red, "no answer"),
        (_, _, true) => (Colour::Red, "out of date"),
        _ => (Colour::Green, "ok"),
    };
    let (name, id, version) = (text(&node["name"]), text(&node["nodeId"]), text(&node["version"]));
    let (sockets, up) = (number(&node["sockets"]), age(&node["uptimeMs"]));
    let plain = |text| (Colour::Plain, text);
    [plain(name), plain(id), plain(version), plain(sockets), (colour, state.to_owned()), plain(lease(node)), plain(up)]
}

/// The newest transitions, in as many lines at most.
fn transitions(data: &Value, n_lines: usize) -> Vec<Line> {
    let transitions = array(&data["transitions"]);
    if n_lines < 2 {
        return Vec::new();
    }
    let title = if transitions.is_empty() { "nobody has come or gone" } else { "newest" };
    let title = Line::of(Colour::Bold, format!("  {title}"));
    [title].into_iter().chain(transitions.iter().take(n_lines - 1).map(transition_line)).collect()
}

fn transition_line(transition: &Value) -> Line {
    let (colour, sign, what) = match transition["type"].as_str() {
        Some("online") => (Colour::Green, '+', status(transition)),
        Some("offline") => (Colour::Red, '-', text(&transition["reason"])),
        Some("changed") => (Colour::Yellow, '~', "profile".to_owned()),
        _ => (Colour::Yellow, '~', status(transition)),
    };
    let (user, name) = (pad(&text(&transition["userId"]), 20), pad(&text(&transition["name"]), 20));
    let provisional = if transition.get("revision").is_some() { "" } else { " (not confirmed yet)" };
    Line::plain(format!("  {}  ", clock(&transition["at"])))
        .and(colour, sign.to_string())
        .and(Colour::Plain, format!(" {user} {name} {what}{provisional}"))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The time of the day of a time, in UTC.
fn clock(time: &Value) -> String {
    let time = text(time);
    time.get(11..19).unwrap_or(&time).to_owned()
}

fn age(ms: &Value) -> String {
    ms.as_u64().map_or_else(|| "-".to_owned(), duration)
}

/// `1 user`, `2 users`.
fn counted(value: &Value, what: &str) -> String {
    format!("{} {what}{}", number(value), if value.as_u64() == Some(1) { "" } else { "s" })
}

fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests;
