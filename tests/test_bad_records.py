import pytest

from data_pipelines.bad_records import BadRecord, BadRecords
from echofm_jax.errors import InputError


def test_a_record_is_told_once(caplog):
    bad = BadRecords(0.5, records=10)
    for _ in range(3):
        bad.tell(4, BadRecord("shard s, record 4 cannot be read"))
    assert caplog.text.count("shard s, record 4 cannot be read: another record stands in") == 1
    assert bad.known == {4}


@pytest.mark.parametrize(("share", "records", "each"), [(0.1, 100, 10), (0.001, 12, 1)])
def test_the_allowed_share_of_every_epoch_is_no_reason_to_stop(share, records, each):
    bad = BadRecords(share, records)
    for _ in range(50):  # epochs, all of whose bad records come first
        bad.slots(each, each)
        bad.slots(records - each, 0)
    assert bad.count == 50 * each
    with pytest.raises(InputError, match=rf"{50 * each + each + 1} of .*max_bad_records={share}"):
        bad.slots(each + 1, each + 1)
