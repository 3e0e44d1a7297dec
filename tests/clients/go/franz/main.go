// franz-go.
package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"plimsoll.example/clients/contract"
)

var background = context.Background()

type client struct {
	bootstrap []string
	replicas  int16
	admin     *kadm.Client
}

func (c *client) Module() string   { return "github.com/twmb/franz-go" }
func (c *client) Codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }
func (c *client) Close()           { c.admin.Close() }

func (c *client) open(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, kgo.SeedBrokers(c.bootstrap...), kgo.FetchMaxWait(100*time.Millisecond))...)
}

func (c *client) CreateTopic(topic string, partitions int32) error {
	_, err := c.admin.CreateTopic(background, partitions, c.replicas, nil, topic)
	return err
}

func (c *client) Produce(topic string, records []contract.Record, codec string) error {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	producer, err := c.open(kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return err
	}
	defer producer.Close()
	var lock sync.Mutex
	var failed error
	for _, r := range records {
		sent := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		if r.Timestamp != 0 {
			sent.Timestamp = time.UnixMilli(r.Timestamp)
		}
		producer.Produce(background, sent, func(_ *kgo.Record, err error) {
			lock.Lock()
			defer lock.Unlock()
			failed = errors.Join(failed, err)
		})
	}
	if err := producer.Flush(background); err != nil {
		return err
	}
	return failed
}

func poll(from *kgo.Client, limit time.Duration) ([]contract.Record, error) {
	ctx, cancel := context.WithTimeout(background, limit)
	defer cancel()
	return records(from.PollFetches(ctx))
}

func records(fetches kgo.Fetches) ([]contract.Record, error) {
	for _, failed := range fetches.Errors() {
		if !errors.Is(failed.Err, context.DeadlineExceeded) {
			return nil, failed.Err
		}
	}
	var all []contract.Record
	fetches.EachRecord(func(r *kgo.Record) {
		got := contract.Record{Key: r.Key, Value: r.Value, Partition: r.Partition,
			Timestamp: r.Timestamp.UnixMilli(), Offset: r.Offset}
		for _, h := range r.Headers {
			got.Headers = append(got.Headers, contract.Header{Name: h.Key, Value: h.Value})
		}
		all = append(all, got)
	})
	return all, nil
}

func (c *client) Read(topic string, starts map[int32]int64, count int, limit time.Duration, committed bool) ([]contract.Record, error) {
	offsets := map[int32]kgo.Offset{}
	for partition, offset := range starts {
		offsets[partition] = kgo.NewOffset().At(offset)
	}
	isolation := kgo.ReadUncommitted()
	if committed {
		isolation = kgo.ReadCommitted()
	}
	consumer, err := c.open(kgo.FetchIsolationLevel(isolation),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	var records []contract.Record
	for end := time.Now().Add(limit); len(records) < count && time.Now().Before(end); {
		got, err := poll(consumer, time.Second)
		if err != nil {
			return records, err
		}
		records = append(records, got...)
	}
	return records, nil
}

func (c *client) OffsetForTime(topic string, partition int32, timestamp int64) (int64, error) {
	listed, err := c.admin.ListOffsetsAfterMilli(background, timestamp, topic)
	if err != nil {
		return 0, err
	}
	found, _ := listed.Lookup(topic, partition)
	return found.Offset, found.Err
}

type member struct {
	consumer *kgo.Client
	lock     sync.Mutex
	owned    []int32
}

func (c *client) Member(group, topic string, consumerProtocol bool) (contract.Member, error) {
	m := &member{}
	gone := func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
		m.lock.Lock()
		defer m.lock.Unlock()
		m.owned = slices.DeleteFunc(m.owned, func(p int32) bool { return slices.Contains(lost[topic], p) })
	}
	options := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10 * time.Second),
		kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
			m.lock.Lock()
			defer m.lock.Unlock()
			m.owned = append(m.owned, got[topic]...)
		}), kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone)}
	if consumerProtocol {
		options = append(options, kgo.ServerSideBalancer())
	}
	consumer, err := c.open(options...)
	m.consumer = consumer
	return m, err
}

func (m *member) Poll(limit time.Duration) ([]contract.Record, error) { return poll(m.consumer, limit) }

func (m *member) Assignment() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Clone(m.owned)
}

func (m *member) Commit() error { return m.consumer.CommitUncommittedOffsets(background) }

func (m *member) Close() error {
	m.consumer.Close()
	return nil
}

func main() {
	contract.Main(func(bootstrap []string, replicas int16) (contract.Client, error) {
		base, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...))
		if err != nil {
			return nil, err
		}
		return &client{bootstrap, replicas, kadm.NewClient(base)}, nil
	})
}
