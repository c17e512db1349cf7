import type { Test } from "tap";
import { Service } from "./service.ts";

/** A service with one map of this kind; what it answers, with the seq of each. */
export async function withMap(t: Test, attr: object) {
  const service = await Service.start(t);
  const session = await service.session();
  const fd = await service.map(session, attr);
  const send = async (method: string, url: string, body?: object): Promise<number> => {
    const response = await service.send(method, url, body);
    if (response.statusCode !== 200) throw new Error(response.body);
    return response.json().seq;
  };
  const get = async (url: string) => (await service.send("GET", url)).json();
  const put = (key: string, value: string) => send("PUT", `${fd}/elements/${key}`, { value });
  return { service, session, fd, send, get, put };
}
