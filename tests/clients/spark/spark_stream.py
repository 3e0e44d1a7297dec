"""A stream from topic to topic that goes on until its standard input ends."""

import argparse
import os
import sys
import threading

from spark_checks import kafka, session


def main():
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "jars", "input", "output", "batch", "checkpoint"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    spark = session(args.jars)
    options = {"subscribe": args.input, "startingOffsets": "earliest", "maxOffsetsPerTrigger": args.batch}
    lines = kafka(spark.readStream, args, **options).load()
    changed = lines.selectExpr("key", "upper(cast(value as string)) as value")
    writing = kafka(changed.writeStream, args, topic=args.output, checkpointLocation=args.checkpoint)
    query = writing.trigger(processingTime="500 milliseconds").start()

    def stop():
        sys.stdin.read()
        query.stop()

    threading.Thread(target=stop, daemon=True).start()
    query.awaitTermination()
    spark.stop()


if __name__ == "__main__":
    main()
    # Threads of the virtual machine's connection do not keep the process.
    sys.stdout.flush()
    os._exit(0)
