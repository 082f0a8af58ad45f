//! What a user costs in the replica of every node.

use anyhow::Result;
use rand::seq::SliceRandom;
use rollcall::domain::{Change, Presence, Roster, UserId};

use crate::process::{Programs, rss_of};
use crate::table::{Measure, Row, Target};

/// Users in the roster.
const N_USERS: usize = 1_000_000;

/// Runs [`roster`] in a process of its own, whose memory nothing else has used.
pub(super) fn measure(programs: &Programs) -> Result<Vec<Row>> {
    let bytes: f64 = programs.own("roster", &["roster"])?.line()?.parse()?;
    Ok(vec![Row {
        workload: format!("replica memory a user without profile, at {N_USERS}"),
        measured: Measure(bytes, "bytes"),
        beside: None,
        target: Target::AtMost(250.0),
        note: "ids of 12 bytes, arriving in no order".to_owned(),
    }])
}

/// Builds a roster as transitions would and prints the resident memory for each user.
pub(crate) fn roster() -> Result<()> {
    let mut numbers: Vec<u32> = (0..N_USERS as u32).collect();
    numbers.shuffle(&mut rand::rng());
    let mut roster = Roster::default();
    let before = rss_of("self")?;
    for number in numbers {
        let user = UserId::parse(&format!("user-{number:07}"))?;
        roster.apply(&user, &Change::Online(Presence::default()));
    }
    println!("{}", (rss_of("self")? - before) as f64 / N_USERS as f64);
    Ok(())
}
