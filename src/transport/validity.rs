//! Until when a certificate is valid.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::domain::Timestamp;

/// The time after which nobody accepts the certificate (`notAfter`). `der` is the certificate as DER. It is none if that cannot
/// be read.
pub(super) fn ends_at(der: &[u8]) -> Option<Timestamp> {
    // Certificate ::= SEQUENCE { TBSCertificate ::= SEQUENCE { [0] version, serialNumber, signature, issuer, validity, … }, … }
    let (certificate, _) = part(der, SEQUENCE)?;
    let (mut rest, _) = part(certificate, SEQUENCE)?;
    if let Some((_version, after)) = part(rest, VERSION) {
        rest = after;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = part(rest, tag)?.1;
    }
    let (validity, _) = part(rest, SEQUENCE)?;
    let (_not_before, not_after) = any_part(validity)?;
    let (tag, text, _) = tagged_part(not_after)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version has a tag of its own, `[0]`. It may be left out.
const VERSION: u8 = 0xA0;

/// The content of the first element, if it has this tag, and what comes after the element.
fn part(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = tagged_part(der)?;
    (found == tag).then_some((content, rest))
}

fn any_part(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, content, rest) = tagged_part(der)?;
    Some((content, rest))
}

/// The first element: its tag, its content, and what comes after it. A length has up to four bytes here.
fn tagged_part(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (bytes, after) = rest.split_at_checked(usize::from(first - 0x80)).filter(|(bytes, _)| bytes.len() <= 4)?;
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time of a certificate. It is in UTC, and has seconds (RFC 5280 §4.1.2.5).
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let whole = match tag {
        // Two digits of the year: from 50 on, it is one of the 20th century.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let seconds =
        DateTime::strptime("%Y%m%d%H%M%SZ", whole).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    Some(Timestamp(u64::try_from(seconds).ok()?.checked_mul(1000)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate_until(year: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, seconds) in
            [(2031, 1_927_843_200), (2049, 2_495_923_200), (2050, 2_527_459_200), (2999, 32_474_995_200)]
        {
            assert_eq!(ends_at(&certificate_until(year)), Some(Timestamp(seconds * 1000)), "{year}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let whole = certificate_until(2031);
        for length in 0..whole.len() {
            assert_eq!(ends_at(&whole[..length]), None);
        }
        for junk in [&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF][..], &[0x30, 0x80], &[0x30, 0x88, 1, 1, 1, 1, 1, 1, 1, 1]] {
            assert_eq!(ends_at(junk), None);
        }
    }
}
