/* All that is CUDA's own: the rest of the decoder is C++ over these names, so that tests can run it on a processor. */
#ifndef P2_PLATFORM_CUH
#define P2_PLATFORM_CUH

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

struct __align__(16) Four {
    u32 x, y, z, w;
};
struct __align__(8) Two {
    u32 x, y;
};

#define DEVICE __device__ __forceinline__
#define PLAIN_KERNEL(name) extern "C" __global__ void __launch_bounds__(256) name
#if CLUSTER > 0
#define KERNEL(name) extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 1) name
#else
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(THREADS, 1) name
#endif

DEVICE int thread() { return threadIdx.x; }
DEVICE int threads() { return blockDim.x; }
DEVICE int block() { return blockIdx.x; }
DEVICE int blocks() { return gridDim.x; }
DEVICE int lane() { return threadIdx.x & 31; }
DEVICE int warp() { return threadIdx.x >> 5; }

DEVICE char *shared_memory() {
    extern __shared__ __align__(16) char bytes[];
    return bytes;
}

DEVICE void sync() { __syncthreads(); }
DEVICE void warp_sync() { __syncwarp(); }

template <typename T> DEVICE T shuffle_xor(T value, int mask) { return __shfl_xor_sync(~0u, value, mask); }
template <typename T> DEVICE T shuffle(T value, int from) { return __shfl_sync(~0u, value, from); }

/* Weights are read once: nothing of theirs belongs into L1. */
DEVICE Four load_stream(const Four *at) {
    Four v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(at));
    return v;
}

/* What other blocks have written: L1 may hold what was there before. */
DEVICE Four load_l2(const Four *at) {
    Four v;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(at)
                 : "memory");
    return v;
}
DEVICE Two load_l2(const Two *at) {
    Two v;
    asm volatile("ld.global.cg.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(at) : "memory");
    return v;
}
DEVICE u32 load_l2(const u32 *at) {
    u32 v;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(v) : "l"(at) : "memory");
    return v;
}
DEVICE i32 load_l2(const i32 *at) { return (i32)load_l2((const u32 *)at); }
DEVICE float load_l2(const float *at) { return __uint_as_float(load_l2((const u32 *)at)); }
DEVICE i64 load_l2(const i64 *at) {
    i64 v;
    asm volatile("ld.global.cg.s64 %0, [%1];" : "=l"(v) : "l"(at) : "memory");
    return v;
}

DEVICE void add_to(i64 *at, i64 value) { atomicAdd((u64 *)at, (u64)value); }

/* One thread of a block tells the others of what its block has written before its last `sync`. */
DEVICE void arrive(u32 *counter) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
DEVICE u32 seen(const u32 *counter) {
    u32 v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(counter) : "memory");
    return v;
}
/* Not `.aligned`: nothing promises that a warp is together again after a loop of which its threads take different shares. */
DEVICE void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}
DEVICE void cluster_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

/* Nanoseconds. */
DEVICE u64 now() {
    u64 v;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(v));
    return v;
}

DEVICE u64 high_product(u64 a, u64 b) { return __umul64hi(a, b); }
DEVICE double log64(double x) { return log(x); }
DEVICE float exp32(float x) { return expf(x); }
DEVICE i64 to_fixed(float x) { return __float2ll_rn(x); }
DEVICE i32 to_nearest(float x) { return __float2int_rn(x); }
DEVICE u32 bits(float x) { return __float_as_uint(x); }
DEVICE float from_bits(u32 x) { return __uint_as_float(x); }

/* Each rounded once; the compiler makes no fused operation of two of them. */
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float sub(float a, float b) { return __fsub_rn(a, b); }
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float divide(float a, float b) { return __fdiv_rn(a, b); }
DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }

DEVICE float half_to_float(u16 x) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x));
    return f;
}
DEVICE u16 float_to_half(float x) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}
DEVICE float brain_to_float(u16 x) { return __uint_as_float((u32)x << 16); }
/* Of finite numbers. */
DEVICE u16 float_to_brain(float x) {
    const u32 v = __float_as_uint(x);
    return (u16)((v + 0x7fff + ((v >> 16) & 1)) >> 16);
}

/* Sums of four products of signed bytes. */
DEVICE i32 dot4(u32 a, u32 b, i32 c) { return __dp4a((i32)a, (i32)b, c); }

/* c += a b for a of 16 rows and b of 8 columns, 16 numbers of 16 bits or 32 bytes deep. Which thread has what is in the
 * PTX manual (mma.m16n8k16, mma.m16n8k32). Turing has smaller pieces of the same. */
DEVICE void multiply_half(float c[4], const u32 a[4], const u32 b[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    for (int half = 0; half < 2; half++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}
#if __CUDA_ARCH__ >= 800
DEVICE void multiply_brain(float c[4], const u32 a[4], const u32 b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
DEVICE void multiply_bytes(i32 c[4], const u32 a[4], const u32 b[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    for (int part = 0; part < 4; part++) /* rows 0 to 7 and 8 to 15, the first and the second half of the depth */
        asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                     : "+r"(c[2 * (part & 1)]), "+r"(c[2 * (part & 1) + 1])
                     : "r"(a[part]), "r"(b[part >> 1]));
#endif
}

#endif
