//! `GET /api/user-status/online`.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::clock;
use crate::domain::{Roster, Status, Timestamp, UserId};
use crate::http::query::Parameters;
use crate::http::{ApiError, Reads, large_json};
use crate::wire::json::{Object, list_capacity};
use crate::wire::status::{Seen, StatusWriter};

/// A part of the list of those who are online.
struct Page<'a> {
    status: Option<Status>,
    cursor: Option<&'a UserId>,
    /// Users on the page.
    limit: usize,
    /// Users that are looked at. Few users may have the status, so a limit alone does not bound the work.
    look_at: usize,
    /// About the size of the page.
    max_bytes: usize,
}

/// Says who is online, and how. The parameters are `status`, `limit` and `cursor`. `count` is the total of all pages.
///
/// # Errors
/// A parameter is bad, or too many answers wait for clients that do not read them.
pub(super) async fn online(request: HttpRequest, reads: web::Data<Reads>) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::parse(request.query_string());
    let limits = &reads.limits;
    let limit = parameters.count("limit", limits.page_max)?.unwrap_or(limits.page_default);
    let cursor = parameters.user("cursor")?;
    let status = parameters.status("status", &Status::VISIBLE)?;
    let page = Page { status, cursor: cursor.as_ref(), limit, look_at: limits.page_max, max_bytes: limits.page_bytes };

    let now = clock::now();
    let mut body = Object::new(2 * list_capacity(limit.min(limits.page_default)));
    body.boolean("success", true);
    {
        let view = reads.replica.view();
        let roster = view.roster();
        if let Some(next) = page.push(body.member("data"), roster, now) {
            body.string("nextCursor", next.as_str());
        }
        body.number("count", status.map_or(roster.len(), |status| roster.count(status)) as u64);
        body.degraded(reads.replica.degraded_since(&view));
    }
    body.time("timestamp", now);
    large_json(&reads, body)
}

impl Page<'_> {
    /// Appends the users as an array. Returns the id after which the next page begins, if there may be more users.
    fn push<'r>(&self, out: &mut Vec<u8>, roster: &'r Roster, now: Timestamp) -> Option<&'r UserId> {
        let begin = out.len();
        let n_wanted = self.status.map_or(roster.len(), |status| roster.count(status));
        let mut writer = StatusWriter::new(now);
        let mut rest = roster.after(self.cursor);
        let (mut n_written, mut n_looked_at, mut last) = (0, 0, None);
        out.push(b'[');
        let next = loop {
            let Some((user, presence)) = rest.next() else { break None };
            if n_written == n_wanted {
                // The last users of the roster have another status.
                break None;
            }
            if n_written == self.limit || n_looked_at == self.look_at || out.len() - begin >= self.max_bytes {
                break last;
            }
            (n_looked_at, last) = (n_looked_at + 1, Some(user));
            if self.status.is_none_or(|status| status == presence.effective) {
                if n_written > 0 {
                    out.push(b',');
                }
                n_written += 1;
                writer.push(out, user.as_str(), Seen::Online(presence));
            }
        };
        out.push(b']');
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Presence;

    /// `a` to `h`. Every third user is away.
    fn roster() -> Roster {
        let status = |n| if n % 3 == 0 { Status::Away } else { Status::Online };
        let presence = |n| Presence { effective: status(n), ..Presence::default() };
        ('a'..='h').enumerate().map(|(n, id)| (user(&id.to_string()), presence(n))).collect()
    }

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    /// The ids of all pages, with `|` between them.
    fn pages(status: Option<Status>, limit: usize, look_at: usize, max_bytes: usize) -> String {
        let roster = roster();
        let (mut pages, mut cursor) = (Vec::new(), None);
        loop {
            let mut out = Vec::new();
            let next = Page { status, cursor: cursor.as_ref(), limit, look_at, max_bytes }.push(
                &mut out,
                &roster,
                Timestamp(0),
            );
            let text = String::from_utf8(out).unwrap();
            let ids = text.split(r#"{"userId":""#).skip(1).map(|rest| &rest[..1]);
            pages.push(ids.collect::<String>());
            match next {
                Some(next) => cursor = Some(next.clone()),
                None => return pages.join("|"),
            }
        }
    }

    #[test]
    fn pages_end_at_the_limit_at_the_size_and_after_enough_work() {
        const LARGE: usize = 10_000;
        assert_eq!(pages(None, LARGE, LARGE, LARGE), "abcdefgh");
        assert_eq!(pages(None, 3, LARGE, LARGE), "abc|def|gh");
        assert_eq!(pages(None, 4, LARGE, LARGE), "abcd|efgh");
        assert_eq!(pages(None, LARGE, LARGE, 2), "a|b|c|d|e|f|g|h");
        assert_eq!(pages(Some(Status::Away), LARGE, LARGE, LARGE), "adg");
        assert_eq!(pages(Some(Status::Away), 2, LARGE, LARGE), "ad|g");
        assert_eq!(pages(Some(Status::Away), LARGE, 2, LARGE), "a|d||g", "a page may be short or empty");
        assert_eq!(pages(Some(Status::Dnd), LARGE, 2, LARGE), "", "nobody has it, so nobody is looked at");
    }
}
