// The process of one side: opens its engine when told, then answers one task at a time.
import { readFileSync } from 'node:fs';
import type { OpenRequest, Reply, Request, Side } from './task.ts';

let side: Side | undefined;
let before = 0;

process.on('message', (message: Request) => {
  void answer(message).then(
    (reply) => process.send?.(reply),
    (error: unknown) =>
      process.send?.({ error: (error as Error).stack ?? String(error), peakGrowth: 0 } satisfies Reply),
  );
});

// The parent has ended, whatever way.
process.on('disconnect', () => process.exit(0));

async function answer(request: Request): Promise<Reply> {
  if ('open' in request) {
    const open = await opener(request.open);
    before = resident('VmRSS');
    const cpu = process.cpuUsage();
    const start = performance.now();
    side = await open();
    const seconds = (performance.now() - start) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    return { opened: { seconds, cpuSeconds: (user + system) / 1e6 }, peakGrowth: resident('VmHWM') - before };
  }
  if (side === undefined) throw new Error('a task came before the engine was opened');
  const measured = await side.run(request.task, request.repetition);
  return { measured, peakGrowth: resident('VmHWM') - before };
}

/** The side's module is loaded before the clock starts; its libraries after. */
async function opener(request: OpenRequest): Promise<() => Promise<Side>> {
  if (request.side === 'ours') {
    const { openOurs } = await import('./our-side.ts');
    return () => openOurs(request);
  }
  const { openPeer } = await import('./peer-side.ts');
  return () => openPeer(request);
}

/** Bytes of a line of /proc/self/status; elsewhere what Node knows, which has no separate peak. */
function resident(line: 'VmRSS' | 'VmHWM'): number {
  try {
    const found = new RegExp(`^${line}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
    if (found !== null) return Number(found[1]) * 1024;
  } catch {
    // Not Linux.
  }
  return line === 'VmHWM' ? process.resourceUsage().maxRSS * 1024 : process.memoryUsage.rss();
}
