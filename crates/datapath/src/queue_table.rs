//! The queues of one poll thread, by place. A place is used again with the next generation, so
//! a hand-back or an event for a former tenant never reaches its successor.

use frame::Origin;

use crate::queue::Queue;

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    queue: Option<Box<Queue>>,
}

/// The table. Places are below 65,536.
#[derive(Debug, Default)]
pub(crate) struct QueueTable {
    places: Vec<Place>,
    free: Vec<u16>,
}

impl QueueTable {
    /// How many queues there are.
    pub(crate) const fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Puts a queue in a free place. `None` gives the queue back: the table is full, which the
    /// limits on ports and queues keep from happening.
    pub(crate) fn insert(&mut self, queue: Queue) -> Option<u16> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u16::try_from(self.places.len()).ok()?;
                self.places.push(Place::default());
                index
            }
        };
        self.places[usize::from(index)].queue = Some(Box::new(queue));
        Some(index)
    }

    /// Takes a queue out.
    pub(crate) fn remove(&mut self, index: u16) -> Option<Box<Queue>> {
        let place = self.places.get_mut(usize::from(index))?;
        let queue = place.queue.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        Some(queue)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u16) -> Option<&mut Queue> {
        self.places.get_mut(usize::from(index))?.queue.as_deref_mut()
    }

    /// Where a frame of this queue is to be handed back.
    pub(crate) fn origin(&self, index: u16, loan: u32) -> Origin {
        let generation = self.places.get(usize::from(index)).map_or(0, |place| place.generation);
        Origin { queue: index, generation, loan }
    }

    /// The queue that a hand-back is for, if it is still there.
    pub(crate) fn by_origin(&mut self, origin: Origin) -> Option<&mut Queue> {
        let place = self.places.get_mut(usize::from(origin.queue))?;
        if place.generation == origin.generation { place.queue.as_deref_mut() } else { None }
    }

    /// A number for events of this queue.
    pub(crate) fn mark(&self, index: u16) -> u64 {
        let generation = self.places.get(usize::from(index)).map_or(0, |place| place.generation);
        u64::from(generation) << 16 | u64::from(index)
    }

    /// The queue that an event is for, if it is still there.
    pub(crate) fn by_mark(&mut self, mark: u64) -> Option<(u16, &mut Queue)> {
        let index = u16::try_from(mark & 0xffff).ok()?;
        let place = self.places.get_mut(usize::from(index))?;
        if u64::from(place.generation) != mark >> 16 {
            return None;
        }
        place.queue.as_deref_mut().map(|queue| (index, queue))
    }
}
