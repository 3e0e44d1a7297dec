// The check `transactions` of both Node clients.
'use strict';

const WAIT = 60_000;

// Where a group goes on after these records.
function positions(records) {
  const next = new Map();
  records.forEach((r) => next.set(r.partition, r.offset + 1));
  return [...next].map(([partition, offset]) => ({ partition, offset: String(offset) }));
}

// A member of a group that is a transactional producer. What its member took and it has not committed, it takes again.
class Worker {
  constructor(producer, member, sendOffsets) {
    Object.assign(this, { producer, member, sendOffsets, taken: 0 });
  }

  async take(count, milliseconds) {
    const end = Date.now() + milliseconds;
    const { records } = this.member;
    while (records.length === this.taken && Date.now() < end) await new Promise((resume) => setTimeout(resume, 20));
    const got = records.slice(this.taken, this.taken + count);
    this.taken += got.length;
    return got;
  }

  async begin() {
    this.transaction = await this.producer.transaction();
  }

  async send(topic, records) {
    const messages = records.map(({ key, value, partition }) => ({ key, value, partition }));
    await this.transaction.send({ topic, messages });
  }

  async offsets(records) {
    await this.sendOffsets(this.transaction, [{ topic: this.member.topic, partitions: positions(records) }]);
  }

  commit() {
    return this.transaction.commit();
  }

  async abort(records) {
    this.taken -= records.length;
    await this.transaction.abort();
  }

  async close() {
    await this.member.close();
    await this.producer.disconnect();
  }
}

// Each third transaction is aborted. After the first of these another worker goes on where the last commit was,
// else the same worker goes back. Gives all that was written.
async function copy(client, expect, source, target, group, count) {
  const written = [];
  const end = Date.now() + 2 * WAIT;
  let worker = await client.worker(group, group, source);
  try {
    for (let turn = 0, copied = 0; copied < count; ) {
      expect(Date.now() < end, `${copied} of ${count} records copied`);
      const records = await worker.take(40, 500);
      if (records.length === 0) continue;
      turn++;
      await worker.begin();
      await worker.send(target, records);
      await worker.offsets(records);
      written.push(...records);
      if (turn % 3) {
        await worker.commit();
        copied += records.length;
        continue;
      }
      await worker.abort(records);
      if (turn === 3) {
        await worker.close();
        worker = await client.worker(group, group, source);
      }
    }
  } finally {
    await worker.close();
  }
  return written;
}

// A topic is copied in transactions while whoever runs this resets the connections; after an error another worker goes
// on where the last commit was. Readers of committed records get each once and in order.
async function transactionLoop(client, topic, { expect, record, spread, sameByPartition }) {
  const [output, group] = [`${topic}-out`, `${topic}-group`];
  await client.createTopic(topic, 2);
  await client.createTopic(output, 2);
  const sent = spread(2000, 2, 40);
  await client.produce(topic, sent);
  console.log('{"check": "transaction-loop", "connections": "reset"}');
  await loop(client, expect, topic, output, group, '{"0":1000,"1":1000}');
  console.log('{"check": "transaction-loop", "connections": "stay"}');
  // After the last record of each partition, so that one that is there twice shows.
  const ends = [0, 1].map((partition) => record(Buffer.from('end'), { key: Buffer.from('end'), partition }));
  await client.produce(output, ends);
  sent.push(...ends);
  sameByPartition(sent, await client.read(output, { 0: 0, 1: 0 }, sent.length, WAIT));
}

// Ends when the group's offsets are the wanted ones.
async function loop(client, expect, source, target, group, wanted) {
  const end = Date.now() + 10 * WAIT;
  let [worker, last] = [null, null];
  const drop = async () => {
    await worker?.close().catch((error) => console.error(`closed with ${error}`));
    worker = null;
  };
  for (;;) {
    expect(Date.now() < end, `not copied; the last error: ${last}`);
    try {
      worker ??= await client.worker(group, group, source);
      const records = await worker.take(40, 500);
      if (records.length > 0) {
        await worker.begin();
        await worker.send(target, records);
        await worker.offsets(records);
        await worker.commit();
        await new Promise((resume) => setTimeout(resume, 200));
      } else if (JSON.stringify(await client.committed(group, source)) === wanted) {
        break;
      }
    } catch (error) {
      last = error;
      console.error(`another worker after ${error}`);
      await drop();
    }
  }
  await drop();
}

// A second producer takes over a transactional id: the transaction of the first is aborted, and it is fenced.
async function supersede(client, expect, topic, target, records) {
  const zombie = await client.worker(`${topic}-id`, `${topic}-zombie`, topic);
  await zombie.begin();
  await zombie.send(target, records.slice(0, 1));
  const heir = await client.worker(`${topic}-id`, `${topic}-heir`, topic);
  await heir.begin();
  await heir.send(target, records.slice(1));
  await heir.commit();
  await heir.close();
  const started = Date.now();
  const refused = await zombie.commit().then(
    () => null,
    (error) => error,
  );
  expect(refused !== null, 'the zombie committed');
  expect(Date.now() - started < WAIT / 2, `the zombie was not fenced at once: ${refused}`);
  await zombie.close();
}

// A topic is copied in transactions, with the group's offsets; some are aborted, and a zombie changes nothing.
async function transactions(client, topic, { expect, record, spread, sameByPartition }) {
  const [output, group] = [`${topic}-out`, `${topic}-group`];
  await client.createTopic(topic, 2);
  await client.createTopic(output, 2);
  const sent = spread(400, 2, 40);
  await client.produce(topic, sent);
  const written = await copy(client, expect, topic, output, group, sent.length);
  const heir = ['zombie', 'heir'].map((word, i) => record(Buffer.from(word), { key: Buffer.from(`${i}`) }));
  await supersede(client, expect, topic, output, heir);
  const committed = [...sent, heir[1]];
  const starts = { 0: 0, 1: 0 };
  sameByPartition(committed, await client.read(output, starts, committed.length, WAIT));
  written.push(...heir);
  expect(written.length > committed.length + 40, `of ${written.length} records few were aborted`);
  sameByPartition(written, await client.read(output, starts, written.length, WAIT, { readUncommitted: true }));
  const found = await client.committed(group, topic);
  expect(JSON.stringify(found) === '{"0":200,"1":200}', `the group's offsets are ${JSON.stringify(found)}`);
}

module.exports = { Worker, transactions, transactionLoop };
