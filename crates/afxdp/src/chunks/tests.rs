//! Who gets which chunks, and who gives which back.

use super::*;

const CHUNK: u64 = CHUNK_BYTES as u64;

fn addresses(part: &Part) -> Vec<u64> {
    part.receive_chunks().chain(part.send_chunks()).collect()
}

#[test]
fn two_queues_share_no_chunk_and_have_as_many_as_their_rings_hold() {
    let umem = Arc::new(Umem::new(2).unwrap());

    let parts = Part::take_several(&umem, 2).unwrap();

    let mut chunks: Vec<u64> = parts.iter().flat_map(addresses).collect();
    let count = chunks.len();
    chunks.sort_unstable();
    chunks.dedup();
    assert_eq!((count, chunks.len()), (8_192, 8_192));
    assert_eq!(chunks.last(), Some(&(8_191 * CHUNK)));
}

#[test]
fn chunks_are_given_out_once_and_again_after_they_came_back() {
    let umem = Arc::new(Umem::new(1).unwrap());
    let part = Part::take(&umem).unwrap();

    assert!(Part::take(&umem).is_none());
    drop(part);
    assert!(Part::take(&umem).is_some());
}

#[test]
fn several_queues_get_all_or_nothing() {
    let umem = Arc::new(Umem::new(2).unwrap());

    assert!(Part::take_several(&umem, 3).is_none());

    assert_eq!(umem.free.count(), 8_192);
}

#[test]
fn each_of_two_queues_gives_back_what_it_got_in_exchange() {
    let umem = Arc::new(Umem::new(2).unwrap());
    let [mut first, mut second] =
        <[Part; 2]>::try_from(Part::take_several(&umem, 2).unwrap()).unwrap();
    let (received, free) = (addresses(&first)[7], addresses(&second)[4_000]);

    first.exchange(received, free);
    second.exchange(free, received);
    drop(first);

    let again = addresses(&Part::take(&umem).unwrap());
    assert!(again.contains(&free) && !again.contains(&received));
    drop(second);
    assert_eq!(umem.free.count(), 8_192);
}

#[test]
fn exchanges_may_be_heard_of_in_any_order() {
    let umem = Arc::new(Umem::new(2).unwrap());
    let mut part = Part::take(&umem).unwrap();
    let (mine, other, foreign) = (CHUNK, 2 * CHUNK, 5_000 * CHUNK);

    // It gave `mine` for `foreign`, and later `other` for `mine`.
    part.exchange(other, mine);
    part.exchange(mine, foreign);

    let have = addresses(&part);
    assert_eq!(have.len(), 4_096);
    assert!(have.contains(&mine) && have.contains(&foreign) && !have.contains(&other));
}

#[test]
fn chunks_that_the_kernel_may_have_are_used_again_after_five_seconds() {
    let umem = Arc::new(Umem::new(1).unwrap());
    let mut part = Part::take(&umem).unwrap();

    part.let_rest();
    drop(part);

    let now = Instant::now();
    assert_eq!(umem.free.count(), 4_096);
    assert_eq!(umem.free.take(now + Duration::from_millis(4_900)), None);
    assert!(umem.free.take(now + Duration::from_secs(5)).is_some());
}

#[test]
fn chunk_says_its_address() {
    assert_eq!(Chunk::at(0).unwrap().address(), 0);
    assert_eq!(Chunk::at(81 * CHUNK + 300).unwrap().address(), 81 * CHUNK);
    assert_eq!(Chunk::at(u64::MAX), None);
    assert_eq!(size_of::<Option<Chunk>>(), 4);
}
