//! What Linux says of this process in `/proc/self/status` (`man 5 proc_pid_status`).

/// The file, as it was when it was read. It is empty on a system that has none.
pub(super) struct OwnStatus(String);

impl OwnStatus {
    pub(super) fn read() -> Self {
        Self(std::fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// The value of a field.
    pub(super) fn get(&self, field: &str) -> Option<&str> {
        self.0.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim()))
    }

    /// Whether this process leads its session. `getsid` does not say it everywhere: it says 0 where the leader is in a process
    /// namespace outside. A system that does not say it counts as no.
    pub(super) fn leads_its_session(&self) -> bool {
        self.get("NSpid").is_some_and(|own| self.get("NSsid") == Some(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_of_a_session_is_known_in_every_namespace() {
        let leads = |text: &str| OwnStatus(text.to_owned()).leads_its_session();
        assert!(leads("Pid:\t7\nNSpid:\t7\nNSpgid:\t7\nNSsid:\t7\n"));
        assert!(leads("NSpid:\t812\t1\nNSsid:\t812\t1\n"));
        assert!(!leads("NSpid:\t9\nNSpgid:\t9\nNSsid:\t7\n"));
        // The session began outside the namespace: its leader has no id within.
        assert!(!leads("NSpid:\t1\nNSsid:\t0\n"));
        assert!(!leads("NSpid:\t812\t1\nNSsid:\t800\t0\n"));
        assert!(!leads(""));
    }

    #[test]
    fn a_field_has_its_whole_name() {
        let status = OwnStatus("SigIgnored:\t1\nSigIgn:\t0000000000000001\n".to_owned());
        assert_eq!(status.get("SigIgn"), Some("0000000000000001"));
        assert_eq!(status.get("SigCgt"), None);
    }
}
