//! Which cores the poll threads may run on.
//!
//! A core has to exist and to be allowed to this process: a container's or a service's CPU set
//! (sched_setaffinity(2), cpuset) counts, not only the machine.

/// The cores that exist and are allowed to this process, ascending.
pub(crate) fn allowed() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// The cores to use when none are configured: the last one.
pub(crate) fn default() -> Vec<usize> {
    vec![allowed().last().copied().unwrap_or(0)]
}

/// Checks a configured list.
///
/// # Errors
///
/// Why one thread on each of these cores cannot be.
pub(crate) fn check(cores: &[usize], allowed: &[usize]) -> Result<(), String> {
    if cores.is_empty() || cores.len() > datapath::MAX_THREADS {
        let (count, most) = (cores.len(), datapath::MAX_THREADS);
        return Err(format!("{count} cores are named, want 1 to {most}"));
    }
    for (place, core) in cores.iter().enumerate() {
        if cores[..place].contains(core) {
            return Err(format!("core {core} is named twice: a core runs one poll thread"));
        }
        if !allowed.contains(core) {
            let list: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            let list = list.join(", ");
            return Err(format!(
                "core {core} does not exist or is not allowed to this process; allowed: {list}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_that_the_machine_lacks_is_refused_by_number() {
        let reason = check(&[0, 9], &[0, 1]).unwrap_err();

        assert!(reason.contains("core 9") && reason.ends_with("allowed: 0, 1"), "{reason}");
    }

    #[test]
    fn core_named_twice_or_none_at_all_is_refused() {
        assert!(check(&[1, 1], &[0, 1]).is_err());
        assert!(check(&[], &[0, 1]).is_err());
        assert!(check(&[1, 0], &[0, 1]).is_ok());
    }

    #[test]
    fn default_core_is_allowed() {
        assert_eq!(check(&default(), &allowed()), Ok(()));
    }
}
