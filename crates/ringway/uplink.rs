//! An uplink: a network interface whose frames come through AF_XDP sockets.
//!
//! The interface's queues go to the poll threads; what is left here keeps the interface taken and
//! puts it back when dropped, which must be after its queues are.

use datapath::IdleQueue;
use datapath::afxdp::{self, AdoptedQueue, Interface, QueueState, UmemPool, XdpQueue};

use crate::port_spec::{Settings, ZeroCopy};
use crate::refusal::Refusal;

/// A taken interface.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// Its queues while another switch takes over. Dropped before the interface is put back.
    pub(crate) idle: Vec<IdleQueue>,
    /// Queues of another switch that have not stopped yet.
    pub(crate) adopted: Vec<AdoptedQueue>,
    pub(crate) interface: Interface,
    /// It is another switch's now.
    pub(crate) is_given: bool,
}

impl Uplink {
    /// Takes an interface.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the way out; the interface is then as it was.
    pub(crate) fn open(
        interface: &str,
        zero_copy: ZeroCopy,
        force: bool,
        pool: &mut UmemPool,
    ) -> Result<(Self, Vec<XdpQueue>), Refusal> {
        let settings = afxdp::Settings {
            zero_copy: match zero_copy {
                ZeroCopy::Auto => afxdp::ZeroCopy::Auto,
                ZeroCopy::Always => afxdp::ZeroCopy::Always,
                ZeroCopy::Never => afxdp::ZeroCopy::Never,
            },
            force,
            ..afxdp::Settings::default()
        };
        Interface::open(interface, &settings, pool)
            .map(|(interface, queues)| (Self::new(interface, Vec::new()), queues))
            .map_err(|error| Refusal::caused_by(&error))
    }

    /// An interface that is taken, with queues of another switch if it is that one's.
    pub(crate) const fn new(interface: Interface, adopted: Vec<AdoptedQueue>) -> Self {
        Self { idle: Vec::new(), adopted, interface, is_given: false }
    }

    fn queues(&mut self) -> impl Iterator<Item = &mut XdpQueue> {
        self.idle.iter_mut().filter_map(IdleQueue::interface)
    }

    /// Where the idle queues have stopped. `None` if one of them has not.
    pub(crate) fn describe_queues(&mut self) -> Option<Vec<QueueState>> {
        self.queues().map(XdpQueue::describe).collect()
    }

    /// Leaves interface and idle queues to another switch.
    pub(crate) fn let_go(&mut self) {
        self.is_given = true;
        self.queues().for_each(XdpQueue::let_go);
        self.interface.let_go();
    }

    /// Makes interface and idle queues this switch's own.
    pub(crate) fn own(&mut self) {
        self.queues().for_each(XdpQueue::own);
        self.interface.own();
    }

    /// Says whether another switch has worked at idle queues, so that this one cannot go on with them.
    pub(crate) fn was_moved(&mut self) -> bool {
        self.queues().any(|queue| queue.was_moved())
    }

    /// Refuses an MTU that was chosen larger than the interface's.
    pub(crate) fn check_mtu(&self, settings: &Settings) -> Result<(), Refusal> {
        let (mtu, limit) = (settings.traits.mtu(), self.interface.mtu_bytes());
        if !settings.has_mtu || mtu <= limit {
            return Ok(());
        }
        let interface = self.interface.name();
        let cause = format!("{interface} had an MTU of {limit} when it was taken, not {mtu}");
        let hint = format!("ip link set dev {interface} mtu {mtu} and add the port anew");
        Err(Refusal::new(cause).hint(hint))
    }
}
