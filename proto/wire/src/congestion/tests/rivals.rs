//! What else sends over a path: CUBIC and BBR as kernels have them, as far as matters for sharing a queue.

use std::time::Duration;

use super::path::PACKET;

/// CUBIC as in RFC 9438, without its fast convergence. Windows in packets.
pub(super) struct Cubic {
    pub(super) window: f64,
    slow_start: bool,
    peak: f64,
    cut_at: Duration,
    srtt: Duration,
    pub(super) acked: f64,
}

impl Default for Cubic {
    fn default() -> Cubic {
        let srtt = Duration::from_millis(100);
        Cubic { window: 10.0, slow_start: true, peak: 0.0, cut_at: Duration::ZERO, srtt, acked: 0.0 }
    }
}

impl Cubic {
    pub(super) fn batch(&mut self, now: Duration, srtt: Duration) {
        let acked = std::mem::take(&mut self.acked);
        self.srtt = srtt;
        if self.slow_start {
            self.window += acked;
            return;
        }
        let (t, rtt) = ((now - self.cut_at).as_secs_f64(), srtt.as_secs_f64());
        let k = (self.peak * 0.3 / 0.4).cbrt();
        let cubic = 0.4 * (t + rtt - k).powi(3) + self.peak;
        let friendly = self.peak * 0.7 + 0.53 * t / rtt;
        let target = cubic.clamp(self.window, self.window * 1.5).max(friendly);
        self.window += (target - self.window).max(0.0) / self.window * acked;
    }

    pub(super) fn lost(&mut self, now: Duration) {
        if now < self.cut_at + self.srtt && self.cut_at > Duration::ZERO {
            return;
        }
        self.slow_start = false;
        self.peak = self.window;
        self.window = (self.window * 0.7).max(2.0);
        self.cut_at = now;
    }
}

/// BBR version 1: paces at its largest rate, in eight phases, and caps what is in flight at two bandwidth-delay products.
pub(super) struct Bbr {
    rates: Vec<f64>,
    rtt_min: Duration,
    rtt_min_at: Duration,
    round_start: Duration,
    delivered: u64,
    full_rate: f64,
    full_rounds: u32,
    filled: bool,
    phase: usize,
    phase_start: Duration,
    probe_rtt_until: Option<Duration>,
}

impl Default for Bbr {
    fn default() -> Bbr {
        Bbr {
            rates: Vec::new(),
            rtt_min: Duration::MAX,
            rtt_min_at: Duration::ZERO,
            round_start: Duration::ZERO,
            delivered: 0,
            full_rate: 0.0,
            full_rounds: 0,
            filled: false,
            phase: 2,
            phase_start: Duration::ZERO,
            probe_rtt_until: None,
        }
    }
}

impl Bbr {
    const ROUNDS: usize = 10;
    const GAINS: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    const RTT_SPAN: Duration = Duration::from_secs(10);
    const PROBE_RTT: Duration = Duration::from_millis(200);

    fn rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    pub(super) fn window(&self) -> u64 {
        if self.probe_rtt_until.is_some() {
            return 5 * PACKET;
        }
        let gain = if self.filled { 2.0 } else { 2.89 };
        let bdp = if self.rates.is_empty() { 0.0 } else { self.rate() * self.rtt_min.as_secs_f64() };
        ((bdp * gain) as u64).max(10 * PACKET)
    }

    pub(super) fn pace(&self) -> Option<f64> {
        let gain = if self.filled { Self::GAINS[self.phase] } else { 2.89 };
        (!self.rates.is_empty()).then(|| self.rate() * gain)
    }

    pub(super) fn acked(&mut self, now: Duration, sent: Duration) {
        self.delivered += PACKET;
        let rtt = now - sent;
        if rtt <= self.rtt_min || now > self.rtt_min_at + Self::RTT_SPAN {
            if rtt > self.rtt_min && self.probe_rtt_until.is_none() {
                self.probe_rtt_until = Some(now + Self::PROBE_RTT + rtt);
            }
            self.rtt_min = rtt;
            self.rtt_min_at = now;
        }
        if self.probe_rtt_until.is_some_and(|until| now > until) {
            self.probe_rtt_until = None;
        }
        if now > self.phase_start + self.rtt_min {
            self.phase = (self.phase + 1) % Self::GAINS.len();
            self.phase_start = now;
        }
        if sent < self.round_start {
            return;
        }
        let rate = self.delivered as f64 / (now - self.round_start).as_secs_f64().max(0.001);
        self.rates.push(rate);
        if self.rates.len() > Self::ROUNDS {
            self.rates.remove(0);
        }
        (self.round_start, self.delivered) = (now, 0);
        if !self.filled {
            let grown = rate >= self.full_rate * 1.25;
            self.full_rate = self.full_rate.max(rate);
            self.full_rounds = if grown { 0 } else { self.full_rounds + 1 };
            self.filled = self.full_rounds >= 3;
        }
    }
}
