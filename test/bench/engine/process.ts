// The parent's end of a side's process.
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Measured, Opened, OpenRequest, Reply, Request, Task } from './task.ts';

const program = fileURLToPath(new URL('child.ts', import.meta.url));

export class SideProcess {
  readonly #child: ChildProcess;
  #errors = '';
  /** Bytes; see `Reply`. */
  peakGrowth = 0;

  private constructor() {
    this.#child = fork(program, [], {
      execArgv: ['--import', 'tsx'],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-4000);
    });
  }

  static async start(request: OpenRequest): Promise<{ readonly process: SideProcess; readonly opened: Opened }> {
    const side = new SideProcess();
    try {
      const { opened } = await side.#ask({ open: request });
      return { process: side, opened: opened as Opened };
    } catch (error) {
      await side.stop();
      throw error;
    }
  }

  async run(task: Task, repetition: number): Promise<Measured> {
    return (await this.#ask({ task, repetition })).measured as Measured;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }

  async #ask(request: Request): Promise<Reply> {
    const reply = await new Promise<Reply>((resolve, reject) => {
      const leave = (code: number | null, signal: string | null): void =>
        reject(new Error(`the process ended with ${signal ?? String(code)}: ${this.#errors.trim().slice(-600)}`));
      this.#child.once('exit', leave);
      this.#child.once('message', (message) => {
        this.#child.off('exit', leave);
        resolve(message as Reply);
      });
      this.#child.send(request);
    });
    if (reply.error !== undefined) throw new Error(reply.error);
    this.peakGrowth = reply.peakGrowth;
    return reply;
  }
}
