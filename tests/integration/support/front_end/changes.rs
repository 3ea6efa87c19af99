//! What a guest does to a session that runs: it leaves, starts anew, sleeps until it is called.

use std::path::Path;
use std::sync::atomic::{Ordering, fence};

use virtio::testing::Driver;
use virtio::{Features, QueueSize};

use super::{
    FrontEnd, GET_VRING_BASE, Manner, PROTOCOL_FEATURES, RING_ENTRIES, Ring, SET_FEATURES,
};

impl FrontEnd {
    /// Leaves as QEMU does that is ended: all rings stop first. Returns when the switch knows.
    pub(crate) fn leave(&mut self) {
        self.stop_all();
        self.vanish();
    }

    /// Leaves with all rings running. Returns when the switch knows.
    pub(crate) fn vanish(&mut self) {
        self.begin_to_vanish();
        self.conversation.await_end();
    }

    /// Leaves with all rings running.
    pub(crate) fn begin_to_vanish(&mut self) {
        // The other end may have hung up already.
        let _ = self.conversation.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Says whether the switch has closed the socket. There is nothing else to read.
    pub(crate) fn is_vanished(&mut self) -> bool {
        let flags = rustix::net::RecvFlags::DONTWAIT;
        rustix::net::recv(&self.conversation.stream, &mut [0; 8][..], flags).is_ok()
    }

    fn stop_all(&mut self) {
        for index in 0..u32::from(self.manner.rings()) {
            self.conversation.send_vring(GET_VRING_BASE, index, 0);
            self.conversation.reply();
        }
    }

    /// Stops all rings. [`start_anew`](Self::start_anew) follows when what is in them was taken.
    pub(crate) fn begin_reset(&mut self) {
        (0..self.manner.rings()).for_each(|index| self.enable(index, false));
        self.stop_all();
    }

    /// Starts all rings as a driver does that was loaded anew: empty, but for receive buffers.
    pub(crate) fn start_anew(&mut self) {
        self.renew_rings();
        (0..self.manner.rings()).for_each(|index| self.enable(index, true));
        let features = self.manner.features.0 | PROTOCOL_FEATURES;
        self.conversation.send_u64(SET_FEATURES, &[features], &[]);
        self.start_all();
    }

    /// How it works its rings.
    pub(crate) const fn manner(&self) -> Manner {
        self.manner
    }

    /// The next driver works the rings in another manner, and may have more or fewer of them. Nobody
    /// works them now.
    pub(crate) fn take_manner(&mut self, manner: Manner) {
        self.manner = manner;
        self.rings = Ring::all(&self.memory, manner);
    }

    /// Plugs in again with rings that are empty, as a guest that boots.
    pub(crate) fn boot(&mut self, socket: &Path) {
        self.renew_rings();
        self.connect_again(socket);
        self.start_all();
    }

    fn start_all(&mut self) {
        (0..self.rings.len()).for_each(|index| self.start(index));
        self.synchronise();
    }

    /// Lays all rings out anew, and fills those for receiving. Nobody works them now.
    fn renew_rings(&mut self) {
        (0..self.rings.len()).for_each(|index| self.renew_ring(index));
    }

    /// The same with one ring.
    pub(super) fn renew_ring(&mut self, index: usize) {
        let ring = &mut self.rings[index];
        let [table, ..] = ring.driver.parts();
        let bytes = usize::try_from(ring.driver.end() - table).unwrap();
        self.memory.write(table, &vec![0; bytes]);
        let size = QueueSize::new(u32::from(RING_ENTRIES), Features::NONE).unwrap();
        ring.driver = Driver::new_at(&self.memory, table, size, self.manner.features);
        ring.next_head = 0;
        if self.manner.receives(index) {
            self.fill(index);
        }
    }

    /// Frames in a pair's transmitq that the switch has not given back.
    pub(crate) fn in_flight_on(&mut self, pair: usize) -> u16 {
        let driver = &mut self.rings[2 * pair + 1].driver;
        while driver.take_used().is_some() {}
        driver.in_flight()
    }

    /// How many buffers of a pair's transmitq the switch has given back, modulo 65,536.
    pub(crate) fn given_back_on(&self, pair: usize) -> u16 {
        self.rings[2 * pair + 1].driver.used_index()
    }

    /// The next frame of a pair.
    pub(crate) fn try_receive_from(&mut self, pair: usize) -> Option<Vec<u8>> {
        self.try_receive_on(pair)
    }

    /// Says whether a frame waits in a pair's receiveq.
    pub(crate) fn has_received(&self, pair: usize) -> bool {
        self.rings[2 * pair].driver.in_flight() < RING_ENTRIES
    }

    /// Asks to be called when the next frame has come. Returns false if it is there already.
    pub(crate) fn lie_down(&mut self, pair: usize) -> bool {
        let driver = &mut self.rings[2 * pair].driver;
        if self.manner.features.contains(Features::RING_EVENT_IDX) {
            driver.set_used_event(driver.used_index());
        } else {
            driver.want_notifications(true);
        }
        // Store of the wish before load of what was used (VIRTIO 1.2, 2.7.14.3 and 2.8.22.3).
        fence(Ordering::SeqCst);
        !self.has_received(pair)
    }

    /// Says whether the switch has called a pair's receiveq since it was asked last.
    pub(crate) fn was_called(&self, pair: usize) -> bool {
        rustix::io::read(&self.rings[2 * pair].call, &mut [0; 8]).is_ok()
    }
}
