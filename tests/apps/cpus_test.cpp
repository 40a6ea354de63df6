// How many processors there are for us: affinity, and quotas of control groups of both versions.
#include "cpus.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace curdkv::app {
namespace {

namespace fs = std::filesystem;

class Quota : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/curdkv-cpus-XXXXXX";
    root_ = mkdtemp(name);
  }
  void TearDown() override { fs::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  double quota() { return usable_cpus(root_).quota; }
  std::string root_;
};

TEST_F(Quota, NoGroupsMeansNoLimit) {
  EXPECT_EQ(quota(), 0);
}

TEST_F(Quota, OfTheGroupOrTheLeastAboveIt) {
  write("/proc/self/cgroup", "0::/a/b\n");
  write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 0);
  write("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(quota(), 1.5);
  write("/sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(quota(), 0.5);
}

TEST_F(Quota, InAContainerTheGroupIsTheRoot) {
  write("/proc/self/cgroup", "0::/\n");
  write("/sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(quota(), 4);
}

TEST_F(Quota, AGroupThatIsNotMountedHereIsLookedForAtTheRoot) {
  write("/proc/self/cgroup", "0::/docker/1234\n");
  write("/sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(quota(), 2);
}

TEST_F(Quota, Version1) {
  write("/proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/job\n0::/\n");
  write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 0);
  write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(quota(), 2.5);
}

TEST_F(Quota, NonsenseIsNoLimit) {
  write("/proc/self/cgroup", "garbage\n0::/a\n");
  write("/sys/fs/cgroup/a/cpu.max", "much 0\n");
  EXPECT_EQ(quota(), 0);
}

TEST(Usable, RoundsUpAndStaysWithinTheAffinity) {
  EXPECT_EQ((Cpus{8, 0}).usable(), 8);
  EXPECT_EQ((Cpus{8, 1.5}).usable(), 2);
  EXPECT_EQ((Cpus{8, 0.2}).usable(), 1);
  EXPECT_EQ((Cpus{2, 64}).usable(), 2);
}

TEST(Affinity, IsAsked) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(usable_cpus().allowed, CPU_COUNT(&before));
  CPU_ZERO(&one);
  for (size_t cpu = 0; CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cpus().allowed, 1);
  sched_setaffinity(0, sizeof before, &before);
}

}  // namespace
}  // namespace curdkv::app
