//! What a guest does to a session that runs: it leaves, and starts anew.

use std::path::Path;

use virtio::testing::Driver;
use virtio::{Features, QueueSize};

use super::{FrontEnd, RING_ENTRIES};

impl FrontEnd {
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
        for index in 0..self.rings.len() {
            let ring = &mut self.rings[index];
            let [table, ..] = ring.driver.parts();
            let bytes = usize::try_from(ring.driver.end() - table).unwrap();
            self.memory.write(table, &vec![0; bytes]);
            let size = QueueSize::new(u32::from(RING_ENTRIES), Features::NONE).unwrap();
            ring.driver = Driver::new_at(&self.memory, table, size, self.manner.features);
            ring.next_head = 0;
            if index % 2 == 0 {
                self.fill(index);
            }
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
}
