//! What is changed at rings that run, and go on.

use frame::PortId;
use virtio::VringLog;

use crate::command::Half;
use crate::queue::Kind;
use crate::settings::Reception;
use crate::thread::PollThread;

impl PollThread {
    pub(super) fn set_reception(&mut self, id: PortId, reception: Reception) {
        let place = self.ports.get_mut(usize::from(id.slot)).and_then(Option::as_deref_mut);
        let Some(port) = place.filter(|port| port.id == id) else { return };
        for place in port.queues.into_iter().flatten() {
            if let Some(queue) = self.queues.get_mut(place) {
                queue.set_reception(&reception);
            }
        }
        port.reception = reception;
    }

    pub(super) fn enable_vring(&mut self, port: PortId, pair: u8, half: Half, is_enabled: bool) {
        let Some(index) = self.place(port, pair) else { return };
        let Some(queue) = self.queues.get_mut(index) else { return };
        let Kind::Guest { transmitq, receiveq } = &mut queue.kind else { return };
        match half {
            Half::Transmitq => {
                if let Some(transmitq) = transmitq {
                    transmitq.is_enabled = is_enabled;
                }
            }
            Half::Receiveq => {
                if let Some(receiveq) = receiveq {
                    receiveq.is_enabled = is_enabled;
                }
                self.set_eligible(index);
            }
        }
    }

    pub(super) fn log_vring(
        &mut self,
        port: PortId,
        pair: u8,
        half: Half,
        log: Option<Box<VringLog>>,
    ) {
        let Some(index) = self.place(port, pair) else { return };
        let Some(queue) = self.queues.get_mut(index) else { return };
        match (&mut queue.kind, half) {
            (Kind::Guest { transmitq: Some(transmitq), .. }, Half::Transmitq) => {
                transmitq.ring.set_log(log);
            }
            (Kind::Guest { receiveq: Some(receiveq), .. }, Half::Receiveq) => {
                receiveq.ring.set_log(log);
            }
            _ => {}
        }
    }
}
