import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../../kit/index.ts';
import { type LogLine, scalarsOf, type TrainingLog } from './training-log.ts';

/**
 * A TensorBoard event file: TFRecord frames (length, masked CRC-32C of it, data, masked CRC-32C of them; little endian)
 * around `tensorflow.Event` messages with scalar summaries. A run that goes on writes its past anew, so that no step
 * stands there twice. Sources: tensorflow/core/lib/io/record_writer.cc, core/util/event.proto, framework/summary.proto.
 */
export async function openTensorboardLog(folder: string, past: readonly LogLine[]): Promise<TrainingLog> {
  const file = join(folder, 'events.out.tfevents.0000000001.cupel');
  const first = past[0] === undefined ? Date.now() : Date.parse(past[0].time);
  await writeFileAtomic(file, Buffer.concat([frame(versionEvent(first / 1000)), ...past.map(frameOf)]));
  return {
    write: (line) => appendFile(file, frameOf(line)),
    close: () => Promise.resolve(),
  };
}

function frameOf(line: LogLine): Buffer {
  const scalars = scalarsOf(line);
  if (scalars.length === 0) return Buffer.alloc(0);
  const values = scalars.map(([tag, value]) =>
    message(1, Buffer.concat([message(1, Buffer.from(tag)), float(2, value)])),
  );
  return frame(
    Buffer.concat([double(1, Date.parse(line.time) / 1000), integer(2, line.step), message(5, Buffer.concat(values))]),
  );
}

function versionEvent(seconds: number): Buffer {
  return Buffer.concat([double(1, seconds), message(3, Buffer.from('brain.Event:2'))]);
}

function frame(data: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  return Buffer.concat([length, masked(length), data, masked(data)]);
}

function masked(data: Buffer): Buffer {
  const checksum = crc32c(data);
  const rotated = ((checksum >>> 15) | (checksum << 17)) >>> 0;
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE((rotated + 0xa282ead8) >>> 0);
  return bytes;
}

/** Castagnoli polynomial, reflected (RFC 3720, B.4). */
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) === 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value >>> 0;
});

function crc32c(data: Buffer): number {
  let checksum = 0xffffffff;
  for (const byte of data) checksum = (checksum >>> 8) ^ (table[(checksum ^ byte) & 0xff] ?? 0);
  return (checksum ^ 0xffffffff) >>> 0;
}

// Protocol buffers, wire format: key = field number × 8 + wire type.

function message(field: number, data: Buffer): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(data.length), data]);
}

function double(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([varint(field * 8 + 1), bytes]);
}

function float(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint(field * 8 + 5), bytes]);
}

function integer(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}
