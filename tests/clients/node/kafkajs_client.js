// kafkajs, with plug-ins for the codecs that it does not bring.
'use strict';

const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs');
const { main, headersToObject, headersToPairs, offsetsOf, until } = require('./contract.js');
const { Worker } = require('./transactions.js');

const lz4 = require('lz4js');
const zstd = require('@bokuweb/zstd-wasm');
const xxh32 = require('lz4js/xxh32.js');
// Kafka takes only frames that say that their blocks are independent. These are, but do not say so.
const lz4Compress = (bytes) => {
  const frame = Buffer.from(lz4.compress(bytes));
  frame[4] |= 0x20;
  frame[6] = (xxh32.hash(0, frame, 4, 2) >> 8) & 0xff;
  return frame;
};
const codecOf = (compress, decompress) => () => ({
  compress: async (encoder) => Buffer.from(compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(decompress(buffer)),
});
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');
CompressionCodecs[CompressionTypes.LZ4] = codecOf(lz4Compress, lz4.decompress);
CompressionCodecs[CompressionTypes.ZSTD] = codecOf(zstd.compress, zstd.decompress);

const TYPES = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

const toRecord = ({ partition, message }) => ({
  key: message.key,
  value: message.value,
  headers: headersToPairs(message.headers),
  partition,
  timestamp: Number(message.timestamp),
  offset: Number(message.offset),
});

class Member {
  constructor(kafka, group, topic, options = {}) {
    this.topic = topic;
    this.records = [];
    this.owned = [];
    const config = { groupId: group, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 100 };
    this.consumer = kafka.consumer({ ...config, ...options });
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.owned = payload.memberAssignment[topic] ?? [];
    });
  }

  async start() {
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [this.topic], fromBeginning: true });
    const eachMessage = async (taken) => void this.records.push(toRecord(taken));
    await this.consumer.run({ autoCommit: false, eachMessage });
    return this;
  }

  assignment() {
    return this.owned;
  }

  async commit() {
    const next = new Map();
    this.records.forEach((r) => next.set(r.partition, r.offset + 1));
    await this.consumer.commitOffsets(
      [...next].map(([partition, offset]) => ({ topic: this.topic, partition, offset: String(offset) })),
    );
  }

  close() {
    return this.consumer.disconnect();
  }
}

class Client {
  constructor(bootstrap) {
    this.version = require('kafkajs/package.json').version;
    this.codecs = Object.keys(TYPES);
    this.kafka = new Kafka({ brokers: bootstrap.split(','), clientId: 'kafkajs-checks', logLevel: logLevel.ERROR });
    this.admin = this.kafka.admin();
  }

  async createTopic(topic, numPartitions) {
    await this.admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: false });
    // With `waitForLeaders` it gives up where a broker has not heard of the topic yet.
    const led = ({ topics }) => topics[0].partitions.length === numPartitions && topics[0].partitions.every((p) => p.leader >= 0);
    const known = () => this.admin.fetchTopicMetadata({ topics: [topic] }).then(led, () => false);
    for (let left = 100; left > 0 && !(await known()); left--) await new Promise((resume) => setTimeout(resume, 100));
  }

  async produce(topic, records, codec = 'none') {
    const producer = this.kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    for (let at = 0; at < records.length; ) {
      let [end, bytes] = [at, 0];
      while (end < records.length && end - at < 1000 && (end === at || bytes < 300_000)) {
        bytes += (records[end++].value ?? '').length + 200;
        if (end < records.length && (records[end].value ?? '').length + bytes > 900_000) break;
      }
      const messages = records.slice(at, end).map((r) => ({
        key: r.key,
        value: r.value,
        partition: r.partition,
        headers: headersToObject(r.headers),
        ...(r.timestamp === null ? {} : { timestamp: String(r.timestamp) }),
      }));
      await producer.send({ topic, messages, acks: -1, compression: TYPES[codec] });
      at = end;
    }
    await producer.disconnect();
  }

  // kafkajs reads only as a member of a group: seeking stands in for assigning.
  async read(topic, starts, count, milliseconds, options = {}) {
    const member = new Member(this.kafka, `${topic}-reader-${Date.now()}`, topic, options);
    const { consumer } = member;
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    const wanted = (taken) => taken.partition in starts;
    const eachMessage = async (taken) => void (wanted(taken) && member.records.push(toRecord(taken)));
    consumer.run({ autoCommit: false, eachMessage });
    for (const [partition, offset] of Object.entries(starts)) {
      consumer.seek({ topic, partition: Number(partition), offset: String(offset) });
    }
    const enough = () => member.records.length >= count;
    await until(enough, milliseconds, () => `${member.records.length} records of ${count} came`);
    await consumer.disconnect();
    return member.records;
  }

  member(group, topic) {
    return new Member(this.kafka, group, topic).start();
  }

  async worker(transactionalId, group, topic) {
    const producer = this.kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    const member = await this.member(group, topic);
    // It takes a group's name alone: who the member is stays unsaid.
    const sendOffsets = (transaction, topics) => transaction.sendOffsets({ consumerGroupId: group, topics });
    return new Worker(producer, member, sendOffsets);
  }

  async committed(groupId, topic) {
    return offsetsOf(await this.admin.fetchOffsets({ groupId, topics: [topic] }));
  }

  async offsetForTime(topic, partition, timestamp) {
    const rows = await this.admin.fetchTopicOffsetsByTimestamp(topic, timestamp);
    return Number(rows.find((row) => row.partition === partition).offset);
  }

  close() {
    return this.admin.disconnect();
  }
}

main(async (bootstrap) => {
  const client = new Client(bootstrap);
  await zstd.init();
  await client.admin.connect();
  return client;
});
