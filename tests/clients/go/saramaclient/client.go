// Package saramaclient adapts sarama to the contract.
package saramaclient

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"plimsoll.example/clients/contract"
)

type client struct {
	bootstrap []string
	replicas  int16
	base      sarama.Client
	admin     sarama.ClusterAdmin
}

func (c *client) Module() string   { return "github.com/IBM/sarama" }
func (c *client) Codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }
func (c *client) Close()           { c.admin.Close() }

func config() *sarama.Config {
	out := sarama.NewConfig()
	out.Version = sarama.MaxVersion
	out.Consumer.MaxWaitTime = 100 * time.Millisecond
	out.Consumer.Offsets.Initial = sarama.OffsetOldest
	out.Consumer.Offsets.AutoCommit.Enable = false
	out.Consumer.Group.Session.Timeout = 10 * time.Second
	out.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return out
}

func (c *client) CreateTopic(topic string, partitions int32) error {
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: c.replicas}
	return c.admin.CreateTopic(topic, detail, false)
}

// encoder keeps nil apart from empty.
func encoder(value []byte) sarama.Encoder {
	if value == nil {
		return nil
	}
	return sarama.ByteEncoder(value)
}

func messages(topic string, records []contract.Record) (all []*sarama.ProducerMessage) {
	for _, r := range records {
		message := &sarama.ProducerMessage{Topic: topic, Partition: r.Partition, Key: encoder(r.Key), Value: encoder(r.Value)}
		for _, h := range r.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.Name), Value: h.Value})
		}
		if r.Timestamp != 0 {
			message.Timestamp = time.UnixMilli(r.Timestamp)
		}
		all = append(all, message)
	}
	return all
}

func (c *client) Produce(topic string, records []contract.Record, codec string) error {
	settings := config()
	settings.Producer.Idempotent = true
	settings.Producer.RequiredAcks = sarama.WaitForAll
	settings.Net.MaxOpenRequests = 1
	settings.Producer.Return.Successes = true
	settings.Producer.Flush.Frequency = 5 * time.Millisecond
	settings.Producer.Partitioner = sarama.NewManualPartitioner
	if err := settings.Producer.Compression.UnmarshalText([]byte(codec)); err != nil {
		return err
	}
	producer, err := sarama.NewSyncProducer(c.bootstrap, settings)
	if err != nil {
		return err
	}
	return errors.Join(producer.SendMessages(messages(topic, records)), producer.Close())
}

func toRecord(m *sarama.ConsumerMessage) contract.Record {
	r := contract.Record{Key: m.Key, Value: m.Value, Partition: m.Partition,
		Timestamp: m.Timestamp.UnixMilli(), Offset: m.Offset}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, contract.Header{Name: string(h.Key), Value: h.Value})
	}
	return r
}

func (c *client) Read(topic string, starts map[int32]int64, count int, limit time.Duration, committed bool) ([]contract.Record, error) {
	settings := config()
	if committed {
		settings.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	consumer, err := sarama.NewConsumer(c.bootstrap, settings)
	if err != nil {
		return nil, err
	}
	all := make(chan *sarama.ConsumerMessage, 256)
	var parts []sarama.PartitionConsumer
	var forwarders sync.WaitGroup
	for partition, offset := range starts {
		part, err := consumer.ConsumePartition(topic, partition, offset)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		forwarders.Go(func() {
			for message := range part.Messages() {
				all <- message
			}
		})
	}
	var records []contract.Record
	timeout := time.After(limit)
	for waiting := true; waiting && len(records) < count; {
		select {
		case message := <-all:
			records = append(records, toRecord(message))
		case <-timeout:
			waiting = false
		}
	}
	for _, part := range parts {
		part.AsyncClose()
	}
	go func() {
		forwarders.Wait()
		close(all)
	}()
	for range all {
	}
	return records, consumer.Close()
}

func (c *client) OffsetForTime(topic string, partition int32, timestamp int64) (int64, error) {
	if err := c.base.RefreshMetadata(topic); err != nil {
		return 0, err
	}
	return c.base.GetOffset(topic, partition, timestamp)
}

// member runs a group session in the background and hands its messages to Poll.
type member struct {
	group    sarama.ConsumerGroup
	messages chan *sarama.ConsumerMessage
	cancel   context.CancelFunc
	done     sync.WaitGroup
	lock     sync.Mutex
	owned    []int32
	session  sarama.ConsumerGroupSession
	failed   error
}

func (c *client) Member(group, topic string, consumerProtocol bool) (contract.Member, error) {
	if consumerProtocol {
		return nil, contract.NotOffered("the client has the classic protocol alone")
	}
	consumer, err := sarama.NewConsumerGroup(c.bootstrap, group, config())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{group: consumer, messages: make(chan *sarama.ConsumerMessage, 100_000), cancel: cancel}
	m.done.Go(func() {
		for ctx.Err() == nil {
			if err := consumer.Consume(ctx, []string{topic}, m); err != nil {
				m.lock.Lock()
				m.failed = err
				m.lock.Unlock()
				return
			}
		}
	})
	return m, nil
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session, m.owned = session, nil
	for _, partitions := range session.Claims() {
		m.owned = append(m.owned, partitions...)
	}
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.owned = nil
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.messages <- message
	}
	return nil
}

func (m *member) Poll(limit time.Duration) ([]contract.Record, error) {
	var records []contract.Record
	timeout := time.After(limit)
	for {
		select {
		case message := <-m.messages:
			m.lock.Lock()
			m.session.MarkMessage(message, "")
			m.lock.Unlock()
			records = append(records, toRecord(message))
		case <-timeout:
			m.lock.Lock()
			defer m.lock.Unlock()
			return records, m.failed
		}
	}
}

func (m *member) Assignment() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Clone(m.owned)
}

func (m *member) Commit() error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session.Commit()
	return nil
}

func (m *member) Close() error {
	m.cancel()
	m.done.Wait()
	return m.group.Close()
}

// Connect opens the library's client.
func Connect(bootstrap []string, replicas int16) (contract.Client, error) {
	base, err := sarama.NewClient(bootstrap, config())
	if err != nil {
		return nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(base)
	return &client{bootstrap, replicas, base, admin}, err
}
