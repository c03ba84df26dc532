// What the programs share: the client, and checks that name what they checked.
import assert from 'node:assert';
import * as k8s from '@kubernetes/client-node';

export const config = new k8s.KubeConfig();
config.loadFromDefault();

/** Milliseconds that a program may take. */
const DEADLINE = 45_000;
setTimeout(() => fail(`FAILED: not done in ${DEADLINE} ms`), DEADLINE).unref();
process.on('unhandledRejection', (error) => fail(`FAILED: ${error?.stack ?? error}`));

export function fail(text) {
  console.error(text);
  process.exit(1);
}

/** Ends the program at the first difference. */
export function check(what, got, want) {
  try {
    assert.deepStrictEqual(got, want);
  } catch (error) {
    fail(`DIFFERENT: ${what}\n${error.message}`);
  }
  console.log(`ok: ${what}`);
}

/** What is asked must be refused with this code, this reason and this in the message. */
export async function refused(what, request, code, reason, text = '') {
  let answer;
  try {
    answer = await request;
  } catch (error) {
    if (!(error instanceof k8s.ApiException)) throw error;
    const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
    check(`${what}: ${reason}`, [error.code, status.kind, status.reason], [code, 'Status', reason]);
    if (!status.message.includes(text)) fail(`DIFFERENT: ${what}\n  got:  ${status.message}\n  want: … ${text} …`);
    return;
  }
  fail(`DIFFERENT: ${what}: accepted, but ${reason} was expected: ${JSON.stringify(answer)}`);
}

/** What is pushed from callbacks, to be awaited one by one. */
export class Queue {
  #items = [];
  #waiting = [];

  push(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter(item);
    else this.#items.push(item);
  }

  next() {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
