//! Rates: two samples and the time between them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{parameters, print, show};
use crate::client::Client;
use crate::refusal::Refusal;
use crate::render;

/// How long `ringway threads` looks.
const LOOK: Duration = Duration::from_millis(500);

/// Shows statistics again and again until interrupted.
pub(super) fn statistics(
    client: &mut Client,
    name: Option<&str>,
    seconds: f64,
    as_json: bool,
) -> Result<(), Refusal> {
    let mut before: Option<(Instant, Value)> = None;
    loop {
        let result = client.call("stats.get", parameters([("name", json!(name))]))?;
        let now = Instant::now();
        if as_json {
            // One object a line, for programs that read a stream.
            print(&format!("{result}\n"))?;
        } else {
            let elapsed = before.as_ref().map(|(then, _)| now.duration_since(*then).as_secs_f64());
            let old = before.as_ref().map(|(_, old)| old);
            let text = render::rates(&result, old.zip(elapsed));
            show(&result, false, |_| format!("{text}\n"))?;
        }
        before = Some((now, result));
        sleep(Duration::from_secs_f64(seconds));
    }
}

/// What the poll threads did within half a second.
pub(super) fn threads(client: &mut Client) -> Result<Value, Refusal> {
    let before = client.call("threads.get", json!({}))?;
    let begin = Instant::now();
    sleep(LOOK);
    let after = client.call("threads.get", json!({}))?;
    let seconds = begin.elapsed().as_secs_f64();
    let none = Vec::new();
    let [before, after] = [&before, &after].map(|all| all["threads"].as_array().unwrap_or(&none));
    let threads: Value =
        before.iter().zip(after).map(|(old, new)| thread(old, new, seconds)).collect();
    Ok(json!({ "threads": threads }))
}

/// Rates of one thread.
fn thread(old: &Value, new: &Value, seconds: f64) -> Value {
    let rise = |key: &str| {
        new[key].as_u64().unwrap_or(0).wrapping_sub(old[key].as_u64().unwrap_or(0)) as f64
    };
    let per = |count: f64, of: f64| if of > 0.0 { json!(round(count / of)) } else { Value::Null };
    let frames = rise("frames");
    let mut report = new.clone();
    report["frames_per_second"] = json!(round(frames / seconds));
    report["busy_share"] = per(rise("busy_ticks"), rise("read_at_ticks"));
    report["cycles_per_frame"] = per(rise("busy_ticks"), frames);
    report["frames_per_burst"] = per(frames, rise("bursts"));
    report
}

fn round(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_share_is_of_the_time_that_passed_asleep_or_not() {
        let sample = |busy: u64, frames: u64, at: u64| json!({"busy_ticks": busy, "frames": frames, "bursts": frames / 4, "read_at_ticks": at});

        let rates = thread(&sample(0, 0, 0), &sample(250, 100, 1_000), 0.5);

        assert_eq!(rates["busy_share"], json!(0.25));
        assert_eq!(rates["frames_per_second"], json!(200.0));
        assert_eq!(rates["cycles_per_frame"], json!(2.5));
        assert_eq!(rates["frames_per_burst"], json!(4.0));
    }

    #[test]
    fn thread_without_frames_has_no_cycles_per_frame() {
        let sample = json!({"busy_ticks": 0, "frames": 0, "bursts": 0, "read_at_ticks": 0});

        assert_eq!(thread(&sample, &sample, 0.5)["cycles_per_frame"], Value::Null);
    }
}
