//! An uplink: a network interface whose frames come through AF_XDP sockets.
//!
//! The interface's queues go to the poll threads; what is left here keeps the interface taken and
//! puts it back when dropped, which must be after its queues are.

use datapath::IdleQueue;
use datapath::afxdp::{self, Interface, UmemPool, XdpQueue};

use crate::port_spec::{Settings, ZeroCopy};
use crate::refusal::Refusal;

/// A taken interface.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// Its queues while another switch takes over. Dropped before the interface is put back.
    pub(crate) idle: Vec<IdleQueue>,
    pub(crate) interface: Interface,
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
            .map(|(interface, queues)| (Self { idle: Vec::new(), interface }, queues))
            .map_err(|error| Refusal::caused_by(&error))
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
