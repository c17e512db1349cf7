"""The README's quick start by a client that openapi-generator has made."""
import json
import sys

import openapi_client as api
from openapi_client.exceptions import ApiException

configuration = api.Configuration(host=sys.argv[1])
# This release looks for a token that it does not set.
configuration.access_token = None
client = api.ApiClient(configuration)
sessions, descriptors, maps = api.SessionsApi(client), api.DescriptorsApi(client), api.MapsApi(client)
by_fd, by_map, events = api.ElementsByDescriptorApi(client), api.ElementsByMapApi(client), api.EventsApi(client)

opened = sessions.open_session(open_session_body=api.OpenSessionBody(name="quick start"))
session = opened.id


def create(name):
    body = api.CreateMapBody(
        map_type="BPF_MAP_TYPE_HASH", map_name=name, key_size=4, value_size=4, max_entries=16
    )
    return descriptors.create_map(session, body)


fd = create("ports").fd
http, https = "50000000", "bb010000"
by_fd.update_element(session, fd, http, api.ValueBody(value="2a000000"))
put = by_fd.update_element(session, fd, https, api.ValueBody(value="2b000000"))
looked = by_fd.lookup_element(session, fd, http)
listed = by_fd.list_elements(session, fd)
by_fd.delete_element(session, fd, https)
try:
    by_fd.lookup_element(session, fd, https)
    errno = None
except ApiException as refused:
    errno = json.loads(refused.body)["errno"]

pathname = "/sys/fs/bpf/ports"
by_fd.pin_map(session, fd, api.PinMapBody(pathname=pathname))
create("gone")
sessions.end_session(session)
left = maps.list_maps().maps
pinned = by_map.list_elements_of_map("pinned:" + pathname)
body = api.UpdateBatchBody(elements=[api.MapElement(key="16000000", value="2c000000")])
batch = by_map.update_batch_of_map("pinned:" + pathname, body)
refused = events.list_events(map="1", errno="ENOENT").events
told = events.list_events(session=1, limit=3).events
past = by_map.list_elements_of_map("1", at=str(put.seq))

print(
    json.dumps(
        {
            "session": session,
            "lease": opened.lease,
            "process": opened.process,
            "fd": fd,
            "value": looked.value,
            "elements": [element.key for element in listed.elements],
            "errno": errno,
            "maps": [[one.name, one.btf, one.mirror.state] for one in left],
            "pinned": [[element.key, element.value] for element in pinned.elements],
            "written": batch.count,
            "refused": [[event.cmd, event.key, event.attr, event.out] for event in refused],
            "log": [
                [one.attr and one.attr.name, one.attr and one.attr.map_name, one.out and one.out.map_id] for one in told
            ],
            "past": len(past.elements),
        }
    )
)
