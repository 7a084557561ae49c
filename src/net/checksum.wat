;; The sum of `length` octets at `at` as `Checksum.sum` gives it, 32 octets at a time. Any alignment; at most 2^18 octets, so that no lane overflows.
(module
  (import "arena" "memory" (memory 0))
  (func (export "sum") (param $at i32) (param $length i32) (result i32)
    (local $one v128) (local $two v128) (local $end i32) (local $total i64)
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const -32))))
    (block $summed
      (loop $stride
        (br_if $summed (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $one (i32x4.add (local.get $one) (i32x4.extadd_pairwise_i16x8_u (v128.load (local.get $at)))))
        (local.set $two (i32x4.add (local.get $two) (i32x4.extadd_pairwise_i16x8_u (v128.load offset=16 (local.get $at)))))
        (local.set $at (i32.add (local.get $at) (i32.const 32)))
        (br $stride)))
    (local.set $one (i64x2.add
      (i64x2.add (i64x2.extend_low_i32x4_u (local.get $one)) (i64x2.extend_high_i32x4_u (local.get $one)))
      (i64x2.add (i64x2.extend_low_i32x4_u (local.get $two)) (i64x2.extend_high_i32x4_u (local.get $two)))))
    (local.set $total (i64.add (i64x2.extract_lane 0 (local.get $one)) (i64x2.extract_lane 1 (local.get $one))))
    ;; What is left: pairs of octets, and the last one padded with zero.
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const 30))))
    (block $paired
      (loop $pair
        (br_if $paired (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $total (i64.add (local.get $total) (i64.load16_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 2)))
        (br $pair)))
    (if (i32.and (local.get $length) (i32.const 1))
      (then (local.set $total (i64.add (local.get $total) (i64.load8_u (local.get $at))))))
    ;; Carries back in, twice for what the first leaves and once more for its carry; then network order.
    (local.set $total (i64.add (i64.and (local.get $total) (i64.const 0xffff)) (i64.shr_u (local.get $total) (i64.const 16))))
    (local.set $total (i64.add (i64.and (local.get $total) (i64.const 0xffff)) (i64.shr_u (local.get $total) (i64.const 16))))
    (local.set $total (i64.add (i64.and (local.get $total) (i64.const 0xffff)) (i64.shr_u (local.get $total) (i64.const 16))))
    (i32.or
      (i32.shl (i32.and (i32.wrap_i64 (local.get $total)) (i32.const 0xff)) (i32.const 8))
      (i32.shr_u (i32.wrap_i64 (local.get $total)) (i32.const 8)))))
