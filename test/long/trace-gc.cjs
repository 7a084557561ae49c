'use strict';
/**
 * Preloaded into every process of a suite; in the datapath it has V8 print each garbage collection to standard output. One is caused here, before
 * there is a worker, so that the first line tells which isolate is the main thread's.
 */

const v8 = require('node:v8');
const vm = require('node:vm');
const { isMainThread } = require('node:worker_threads');

if (isMainThread && /datapath-process/.test(process.argv[1] ?? '')) {
  v8.setFlagsFromString('--trace-gc');
  v8.setFlagsFromString('--expose-gc');
  vm.runInNewContext('gc')();
}
