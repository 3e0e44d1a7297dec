// The checks of both Node clients, written once over a small adapter (see ../README.md).
'use strict';

const { transactions, transactionLoop } = require('./transactions.js');

const WAIT = 60_000;
// An hour ago: older than any clock difference, younger than any retention.
const FIRST_TIMESTAMP = (Math.floor(Date.now() / 1000) - 3600) * 1000;

class Mismatch extends Error {}
class NotOffered extends Error {}
class Skipped extends Error {}

function expect(condition, detail) {
  if (!condition) throw new Mismatch(detail);
}

// Bytes that differ for each index and do not compress to nothing.
function pattern(index, length) {
  const step = (index * 2 + 1) & 0xff;
  const bytes = Buffer.alloc(length);
  for (let j = 0; j < length; j++) bytes[j] = index + (j & 0xff) * step;
  return bytes;
}

const text = (index) => Buffer.from(`record ${index} of a compressible kind; `.repeat(8));

function equal(left, right) {
  if (left === null || right === null) return left === right;
  return Buffer.compare(Buffer.from(left), Buffer.from(right)) === 0;
}

function brief(record) {
  const cut = (v) => (v === null ? 'null' : `${v.length}:${JSON.stringify(v.toString().slice(0, 24))}`);
  return `key=${cut(record.key)} value=${cut(record.value)} headers=${record.headers.length}`;
}

function sameRecord(left, right) {
  return (
    equal(left.key, right.key) &&
    equal(left.value, right.value) &&
    left.headers.length === right.headers.length &&
    left.headers.every(([n, v], i) => n === right.headers[i][0] && equal(v, right.headers[i][1]))
  );
}

function same(sent, received) {
  expect(sent.length === received.length, `${sent.length} records sent, ${received.length} received`);
  sent.forEach((left, i) =>
    expect(
      sameRecord(left, received[i]),
      `record ${i}: sent ${brief(left)}, received ${brief(received[i])}`,
    ),
  );
}

// Equal bytes and order within each partition, nothing missing, nothing twice.
function sameByPartition(sent, received) {
  expect(sent.length === received.length, `${sent.length} records sent, ${received.length} received`);
  for (const partition of new Set(sent.map((r) => r.partition))) {
    const mine = received.filter((r) => r.partition === partition);
    mine.forEach((r, i) =>
      expect(i === 0 || r.offset > mine[i - 1].offset, `partition ${partition}: order lost at ${r.offset}`),
    );
    same(sent.filter((r) => r.partition === partition), mine);
  }
}

const record = (value, more = {}) => ({
  key: null,
  headers: [],
  partition: 0,
  timestamp: null,
  ...more,
  value,
});
const range = (n, make) => Array.from({ length: n }, (_, i) => make(i));
const spread = (count, partitions, size) =>
  range(count, (i) => record(pattern(i, size), { key: Buffer.from(`${i}`), partition: i % partitions }));

async function until(test, milliseconds, what) {
  const end = Date.now() + milliseconds;
  while (!test()) {
    expect(Date.now() < end, what());
    await new Promise((resume) => setTimeout(resume, 20));
  }
}

// What arrives from a client that cannot send zero bytes as a key or value.
function withoutEmpty(sent) {
  const orNull = (bytes) => (bytes === null || bytes.length === 0 ? null : bytes);
  return { ...sent, key: orNull(sent.key), value: orNull(sent.value) };
}

async function roundtrip(client, topic, sent, codec) {
  await client.createTopic(topic, 1);
  await client.produce(topic, sent, codec);
  const wanted = client.sendsEmptyAsNull ? sent.map(withoutEmpty) : sent;
  same(wanted, await client.read(topic, { 0: 0 }, sent.length, WAIT));
}

// Every record that the members took, in the order in which they came.
const taken = (members) => members.flatMap((m) => m.records);

async function drain(members, count) {
  const enough = () => taken(members).length >= count;
  await until(enough, WAIT, () => `${taken(members).length} records of ${count} came`);
  return taken(members);
}

async function settle(members, wanted) {
  const owned = () => members.map((m) => m.assignment().length);
  const settled = () => JSON.stringify(owned()) === JSON.stringify(wanted);
  await until(settled, WAIT, () => `members own ${owned()}, wanted ${wanted}`);
}

const CHECKS = {
  async keys(client, topic) {
    const sent = range(200, (i) => record(pattern(i, 20), { key: pattern(i, i % 65) }));
    sent.push(record(Buffer.from('no key')));
    await roundtrip(client, topic, sent);
  },

  async nulls(client, topic) {
    const empty = Buffer.alloc(0);
    const sent = [
      record(Buffer.from('value')),
      record(null, { key: Buffer.from('tombstone') }),
      record(empty, { key: empty }),
      record(empty),
      record(null, { key: empty }),
      record(Buffer.from('end'), { key: Buffer.from('end') }),
    ];
    await roundtrip(client, topic, sent);
  },

  async headers(client, topic) {
    const b = (s) => Buffer.from(s);
    const sent = [
      record(b('none')),
      record(b('one'), { headers: [['a', b('1')]] }),
      record(b('twice'), { headers: [['a', b('1')], ['a', b('2')], ['a', b('1')], ['b', b('x')]] }),
      record(b('empty'), { headers: [['empty', b('')], ['binary', Buffer.from(range(256, (i) => i))]] }),
      record(b('many'), { headers: range(100, (i) => [`h${i}`, pattern(i, i)]) }),
    ];
    await roundtrip(client, topic, sent);
  },

  async codec(client, topic, args, codec) {
    const headers = [['codec', Buffer.from(codec)]];
    const sent = range(500, (i) => record(text(i), { key: Buffer.from(`${i}`), headers }));
    await roundtrip(client, topic, sent, codec);
  },

  async sizes(client, topic) {
    const lengths = [0, 1, 100, 1023, 4096, 16384, 65537, 250000, 500000, 900000];
    await roundtrip(client, topic, lengths.map((n, i) => record(pattern(i, n), { key: Buffer.from(`${n}`) })));
  },

  async bulk(client, topic, args) {
    await client.createTopic(topic, 3);
    const sent = range(args.records, (i) =>
      record(pattern(i, 10 + ((i * 37) % 200)), { key: Buffer.from(`${i}`), partition: i % 3 }),
    );
    await client.produce(topic, sent);
    const wait = WAIT + args.records * 2;
    sameByPartition(sent, await client.read(topic, { 0: 0, 1: 0, 2: 0 }, sent.length, wait));
  },

  async assign(client, topic) {
    await client.createTopic(topic, 3);
    const sent = spread(300, 3, 50);
    await client.produce(topic, sent);
    const received = await client.read(topic, { 1: 5 }, 95, WAIT);
    expect(received[0].offset === 5, `first offset ${received[0].offset}, asked for 5`);
    same(sent.filter((r) => r.partition === 1).slice(5), received);
  },

  async subscribe(client, topic) {
    await client.createTopic(topic, 3);
    const sent = spread(600, 3, 50);
    await client.produce(topic, sent);
    const member = await client.member(`${topic}-group`, topic);
    try {
      const received = await drain([member], sent.length);
      expect(member.assignment().length === 3, `assigned ${member.assignment()}, not all three`);
      sameByPartition(sent, received);
    } finally {
      await member.close();
    }
  },

  async resume(client, topic) {
    await client.createTopic(topic, 2);
    const group = `${topic}-group`;
    const sent = spread(200, 2, 50);
    await client.produce(topic, sent.slice(0, 80));
    let member = await client.member(group, topic);
    const first = await drain([member], 80);
    await member.commit();
    await member.close();
    await client.produce(topic, sent.slice(80));
    member = await client.member(group, topic);
    try {
      await drain([member], 120);
      await new Promise((resume) => setTimeout(resume, 1000));
      sameByPartition(sent, first.concat(member.records));
    } finally {
      await member.close();
    }
  },

  async rebalance(client, topic, args, codec, options = {}) {
    await client.createTopic(topic, 4);
    const group = `${topic}-group`;
    const first = await client.member(group, topic, options);
    let second = null;
    try {
      await settle([first], [4]);
      second = await client.member(group, topic, options);
      await settle([first, second], [2, 2]);
      const overlap = first.assignment().filter((p) => second.assignment().includes(p));
      expect(overlap.length === 0, `both members own ${overlap}`);
      const sent = spread(400, 4, 50);
      await client.produce(topic, sent);
      sameByPartition(sent, await drain([first, second], 400));
      await first.commit();
      await second.commit();
      await second.close();
      second = null;
      await settle([first], [4]);
      first.records.length = 0;
      const more = spread(100, 4, 60);
      await client.produce(topic, more);
      sameByPartition(more, await drain([first], 100));
    } finally {
      if (second) await second.close();
      await first.close();
    }
  },

  async time(client, topic) {
    await client.createTopic(topic, 1);
    const sent = range(100, (i) => record(Buffer.from(`${i}`), { timestamp: FIRST_TIMESTAMP + i * 1000 }));
    await client.produce(topic, sent);
    for (const [asked, wanted] of [[0, 0], [50000, 50], [50001, 51], [99000, 99]]) {
      const found = await client.offsetForTime(topic, 0, FIRST_TIMESTAMP + asked);
      expect(found === wanted, `offset for first+${asked} ms is ${found}, not ${wanted}`);
    }
    const received = await client.read(topic, { 0: 50 }, 50, WAIT);
    same(sent.slice(50), received);
    received.forEach((r, i) =>
      expect(r.timestamp === sent[50 + i].timestamp, `timestamp ${r.timestamp} at offset ${r.offset}`),
    );
  },

  // The group protocol of KIP-848.
  async 'consumer-protocol'(client, topic, args) {
    if (!client.consumerProtocol) throw new NotOffered('the client has the classic protocol alone');
    if (process.env.CONSUMER_PROTOCOL !== 'yes') {
      throw new Skipped('the broker does not serve ConsumerGroupHeartbeat');
    }
    await CHECKS.rebalance(client, topic, args, null, client.consumerProtocol);
  },

  transactions: (client, topic) => transactions(client, topic, { expect, record, spread, sameByPartition }),
};
// What is run by its name alone.
const NAMED = {
  'transaction-loop': (client, topic) => transactionLoop(client, topic, { expect, record, spread, sameByPartition }),
};

async function runOne(client, check, args, codec = null) {
  const topic = [args['topic-prefix'], check, codec].filter(Boolean).join('-');
  const started = Date.now();
  const line = { check, codec, ok: true, detail: '' };
  try {
    await { ...CHECKS, ...NAMED }[check](client, topic, args, codec);
  } catch (error) {
    if (error instanceof Skipped) line.skipped = error.message;
    line.ok = error instanceof NotOffered || error instanceof Skipped ? null : false;
    line.detail = line.ok === null ? error.message : `${error.name}: ${error.message}`;
  }
  line.seconds = (Date.now() - started) / 1000;
  console.log(JSON.stringify(line));
  return line.ok !== false;
}

async function main(makeClient) {
  const args = { records: '10000', check: 'all' };
  for (let i = 2; i < process.argv.length; i += 2) args[process.argv[i].slice(2)] = process.argv[i + 1];
  args.records = Number(args.records);
  const client = await makeClient(args.bootstrap);
  console.log(JSON.stringify({ check: 'version', ok: true, detail: client.version }));
  let fine = true;
  for (const check of args.check === 'all' ? Object.keys(CHECKS) : [args.check]) {
    for (const codec of check === 'codec' ? client.codecs : [null]) {
      fine = (await runOne(client, check, args, codec)) && fine;
    }
  }
  await client.close();
  process.exit(fine ? 0 : 1);
}

// Both libraries give headers as an object: a name with several values holds an array.
function headersToObject(pairs) {
  const object = {};
  for (const [name, value] of pairs) {
    if (name in object) object[name] = [].concat(object[name], [value]);
    else object[name] = value;
  }
  return object;
}

// The admin clients' answer, by partition.
function offsetsOf(answer) {
  const rows = answer.flatMap(({ partitions }) => partitions);
  rows.sort((left, right) => left.partition - right.partition);
  return Object.fromEntries(rows.map(({ partition, offset }) => [partition, Number(offset)]));
}

function headersToPairs(object) {
  return Object.entries(object ?? {}).flatMap(([name, value]) =>
    Array.isArray(value) ? value.map((v) => [name, v]) : [[name, value]],
  );
}

module.exports = { main, headersToObject, headersToPairs, offsetsOf, until };
