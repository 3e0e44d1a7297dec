// @confluentinc/kafka-javascript (librdkafka), through its promise interface.
'use strict';

const { Kafka, logLevel } = require('@confluentinc/kafka-javascript').KafkaJS;
const { main, headersToObject, headersToPairs, offsetsOf, until } = require('./contract.js');
const { Worker } = require('./transactions.js');

const toRecord = ({ partition, message }) => ({
  key: message.key,
  value: message.value,
  headers: headersToPairs(message.headers),
  partition,
  timestamp: Number(message.timestamp),
  offset: Number(message.offset),
});

class Member {
  constructor(kafka, group, topic, wanted = () => true, options = {}) {
    this.topic = topic;
    this.records = [];
    this.wanted = wanted;
    const { protocol = 'classic', ...more } = options;
    const classic = protocol === 'classic' ? { sessionTimeout: 10000, heartbeatInterval: 500 } : {};
    this.consumer = kafka.consumer({
      kafkaJS: { groupId: group, fromBeginning: true, autoCommit: false, ...classic, ...more },
      'group.protocol': protocol,
      'fetch.wait.max.ms': 100,
    });
  }

  async start() {
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [this.topic] });
    const eachMessage = async (taken) => void (this.wanted(taken) && this.records.push(toRecord(taken)));
    await this.consumer.run({ eachMessage });
    return this;
  }

  assignment() {
    return this.consumer.assignment().map((row) => row.partition);
  }

  async commit() {
    const next = new Map();
    this.records.forEach((r) => next.set(r.partition, r.offset + 1));
    const owned = this.assignment();
    await this.consumer.commitOffsets(
      [...next]
        .filter(([partition]) => owned.includes(partition))
        .map(([partition, offset]) => ({ topic: this.topic, partition, offset: String(offset) })),
    );
  }

  close() {
    return this.consumer.disconnect();
  }
}

class Client {
  constructor(bootstrap) {
    const { version } = require('@confluentinc/kafka-javascript/package.json');
    this.version = `${version}, librdkafka ${require('@confluentinc/kafka-javascript').librdkafkaVersion}`;
    this.sendsEmptyAsNull = true;
    this.consumerProtocol = { protocol: 'consumer' };
    this.codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'];
    this.kafka = new Kafka({ kafkaJS: { brokers: bootstrap.split(','), logLevel: logLevel.ERROR } });
    this.admin = this.kafka.admin();
  }

  async createTopic(topic, numPartitions) {
    await this.admin.createTopics({ topics: [{ topic, numPartitions }] });
  }

  async produce(topic, records, codec = 'none') {
    const producer = this.kafka.producer({
      kafkaJS: { idempotent: true, acks: -1, compression: codec },
      'linger.ms': 5,
    });
    await producer.connect();
    for (let at = 0; at < records.length; at += 5000) {
      const messages = records.slice(at, at + 5000).map((r) => ({
        key: r.key,
        value: r.value,
        partition: r.partition,
        headers: headersToObject(r.headers),
        ...(r.timestamp === null ? {} : { timestamp: String(r.timestamp) }),
      }));
      await producer.send({ topic, messages });
    }
    await producer.disconnect();
  }

  // Its promise interface reads only as a member of a group: seeking stands in for assigning.
  async read(topic, starts, count, milliseconds, options = {}) {
    const wanted = ({ partition, message }) =>
      partition in starts && Number(message.offset) >= starts[partition];
    const member = new Member(this.kafka, `${topic}-reader-${Date.now()}`, topic, wanted, options);
    await member.consumer.connect();
    await member.consumer.subscribe({ topics: [topic] });
    for (const [partition, offset] of Object.entries(starts)) {
      member.consumer.seek({ topic, partition: Number(partition), offset: String(offset) });
    }
    await member.consumer.run({
      eachMessage: async (taken) => void (wanted(taken) && member.records.push(toRecord(taken))),
    });
    const enough = () => member.records.length >= count;
    await until(enough, milliseconds, () => `${member.records.length} records of ${count} came`);
    await member.close();
    return member.records;
  }

  member(group, topic, options) {
    return new Member(this.kafka, group, topic, () => true, options).start();
  }

  // Connecting begins with InitProducerId, and what may be tried again is left to the application.
  async transactional(transactionalId) {
    for (const end = Date.now() + 30_000; ; ) {
      const producer = this.kafka.producer({ kafkaJS: { transactionalId } });
      try {
        await producer.connect();
        return producer;
      } catch (error) {
        if (!error.retriable || Date.now() > end) throw error;
        await new Promise((resume) => setTimeout(resume, 100));
      }
    }
  }

  async worker(transactionalId, group, topic) {
    const producer = await this.transactional(transactionalId);
    const member = await this.member(group, topic);
    const sendOffsets = (transaction, topics) => transaction.sendOffsets({ consumer: member.consumer, topics });
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
  await client.admin.connect();
  return client;
});
